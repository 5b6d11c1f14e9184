"""Splatt3R: lists of views, one dictionary for each of two, and rendered as its own decoder renders."""

from types import SimpleNamespace

import host_stubs as stub
import torch
from family_decoder import family_decoder, load_rasterizer

from diff3r_adapters.splatt3r import Splatt3R
from diff3r_plugin.plugin import Call
from diff3r_plugin.plugin.host.contract import AdapterContract, Example
from diff3r_plugin.render import render


def views(count: int = 2):
    """Two or more views of a batch, as its data set gives them."""
    context = stub.context(views=count)
    pixels = torch.tensor([stub.W, stub.H, 1.0])[:, None]
    return [
        {
            "original_img": context["image"][:, number],
            "img": context["image"][:, number] * 2 - 1,
            "camera_pose": context["extrinsics"][:, number],
            "camera_intrinsics": context["intrinsics"][:, number] * pixels,
        }
        for number in range(count)
    ]


def predictions(seed: int = 0):
    scene = stub.host_gaussians(coefficients=1, seed=seed)

    def maps(value):
        return value.unflatten(1, (2, stub.H, stub.W)).unbind(1)

    rows = zip(
        maps(scene.means), maps(scene.covariances), maps(scene.harmonics), maps(scene.opacities[..., None]), strict=True
    )
    first, second = ({"means": m, "covariances": c, "sh": h, "opacities": o, "conf": o} for m, c, h, o in rows)
    second["means_in_other_view"] = second.pop("means")
    return first, second


class TestSplatt3R(AdapterContract):
    def example(self):
        wrapper = SimpleNamespace(decoder=SimpleNamespace(background_color=torch.zeros(3)))
        return Example(Splatt3R(), wrapper, views(), predictions(), stub.B, Call(wrapper, tuple(views())))


def test_both_arguments_are_the_context_however_they_are_given():
    first, second = views()
    assert Splatt3R().context_of(Call(None, (first, second))) == [first, second]
    assert Splatt3R().context_of(Call(None, (first,), {"view2": second})) == [first, second]


def test_cameras_stand_in_the_frame_of_the_first_view_and_render_as_the_decoder_does():
    adapter, batch = Splatt3R(), {"context": views(3)[:2], "target": views(3), "scene": ["a", "b"]}
    wrapper = SimpleNamespace(decoder=SimpleNamespace(background_color=torch.tensor([0.2, 0.4, 0.6])))
    output = predictions()
    target = adapter.target_views(wrapper, batch, output)
    torch.testing.assert_close(target.world_to_camera[:, 0], torch.eye(4).expand(stub.B, 4, 4), atol=1e-6, rtol=0)
    first = batch["context"][0]["camera_pose"]
    cameras = {
        "extrinsics": torch.stack([torch.linalg.inv(first) @ view["camera_pose"] for view in batch["target"]], 1),
        "intrinsics": stub.context(views=3)["intrinsics"],
        "near": torch.full((stub.B, 3), 0.1),
        "far": torch.full((stub.B, 3), 1000.0),
    }
    scene = stub.host_gaussians(coefficients=1)
    theirs = family_decoder(
        load_rasterizer(), scene, cameras, stub.H, stub.W, background=wrapper.decoder.background_color
    )
    ours = render(adapter.gaussians(output, stub.B), target)
    assert theirs.std() > 0.02 and -10 * (ours - theirs).square().mean().log10() > 80
    assert torch.equal(target.images, adapter.target_images(batch))


def test_what_is_not_refined_is_carried_over():
    output = predictions()
    written = Splatt3R().with_gaussians(output, Splatt3R().gaussians(output, stub.B).map(lambda t: t * 0.5))
    assert set(written[1]) == set(output[1]) and written[1]["conf"] is output[1]["conf"]
    torch.testing.assert_close(written[1]["means_in_other_view"], output[1]["means_in_other_view"] * 0.5)
