"""AnySplat, VicaSplat and EcoSplat: cameras in the output; Gaussians in voxels, in maps, or pruned; gsplat renders."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import host_stubs as stub
import pytest
import torch
from torch import Tensor, nn

from diff3r_adapters.anysplat import AnySplat
from diff3r_adapters.ecosplat import EcoSplat
from diff3r_adapters.spfsplat import SPFSplat
from diff3r_adapters.vicasplat import POSES, VicaSplat
from diff3r_plugin.plugin.host.contract import AdapterContract, Example
from diff3r_plugin.plugin.host.feature_tap import FeatureTap

B, V, H, W = stub.B, stub.V, stub.H, stub.W

DRAWN = torch.zeros(2, 2, 3, 6, 8)


@dataclass
class ShapedGaussians(stub.HostGaussians):
    scales: Tensor
    rotations: Tensor


def shaped(scene: stub.HostGaussians) -> ShapedGaussians:
    count = scene.means.shape[:2]
    quats = torch.nn.functional.normalize(torch.randn(*count, 4, generator=torch.Generator().manual_seed(2)), dim=-1)
    return ShapedGaussians(**vars(scene), scales=torch.full((*count, 3), 0.1), rotations=quats)


def camera_to_world(shift: float = 0.3, views: int = V) -> Tensor:
    """In the frame of the first view, another scale than the data's."""
    poses = torch.eye(4).repeat(B, views, 1, 1)
    poses[:, :, 0, 3] = shift * torch.arange(views)
    return poses


@dataclass
class EncoderOutput:
    """As AnySplat's encoder answers."""

    gaussians: Any
    pred_context_pose: dict[str, Tensor]
    depth_dict: dict[str, Tensor]


def voxels() -> EncoderOutput:
    """Fewer Gaussians than pixels, of harmonics of degree 4; the last ones are padding."""
    scene = shaped(stub.host_gaussians())
    few = ShapedGaussians(**{name: value[:, :50].clone() for name, value in vars(scene).items()})
    few.opacities[:, -4:], few.covariances[:, -4:], few.means[:, -4:] = 0, 0, -1e4
    poses = {"extrinsic": camera_to_world(), "intrinsic": stub.context(center=(0.4, 0.6))["intrinsics"]}
    return EncoderOutput(few, poses, {"depth": torch.rand(B, V, H, W)})


def maps() -> dict[str, Any]:
    """VicaSplat's dictionary, with Gaussians in maps."""
    scene = shaped(stub.host_gaussians())
    scene = ShapedGaussians(**{name: value.unflatten(1, (V, H, W)) for name, value in vars(scene).items()})
    scene.opacities = scene.opacities[..., None]
    return {"gaussians": scene, POSES: camera_to_world(), "gaussian_camera_intrins": None, "confidence": None}


def pruned() -> dict[str, Any]:
    scene = shaped(stub.host_gaussians())
    few = ShapedGaussians(**{name: value[:, 5:60] for name, value in vars(scene).items()})
    return {"gaussians": few, "extrinsics": {"c": camera_to_world()}, "compression_ratio": 0.4}


def vicasplat(use_gsplat: bool = False) -> SimpleNamespace:
    wrapper = stub.wrapper(cfg=SimpleNamespace(use_gsplat=use_gsplat), make_scale_invariant=True)
    wrapper.encoder = None
    return wrapper


def wrapper_of_anysplat():
    return SimpleNamespace(model=SimpleNamespace(encoder=None, decoder=SimpleNamespace(background_color=torch.ones(3))))


class TestAnySplat(AdapterContract):
    def example(self):
        return Example(AnySplat(), wrapper_of_anysplat(), stub.context()["image"], voxels(), B)


class TestVicaSplat(AdapterContract):
    def example(self):
        return Example(VicaSplat(), vicasplat(), stub.context(image_range=(-1.0, 1.0)), maps(), B)


class TestEcoSplat(AdapterContract):
    def example(self):
        wrapper = stub.wrapper()
        wrapper.training = False
        return Example(EcoSplat(), wrapper, stub.context(), pruned(), B)


@pytest.mark.parametrize("adapter", [AnySplat(), EcoSplat()], ids=lambda a: a.name)
def test_merged_and_pruned_gaussians_stand_on_no_grid(adapter):
    assert adapter.alignment(None) is None


@pytest.mark.parametrize("adapter", [AnySplat(), VicaSplat(), EcoSplat()], ids=lambda a: a.name)
def test_refined_cameras_go_back_to_where_the_host_reads_them(adapter):
    output = {"anysplat": voxels, "vicasplat": maps, "ecosplat": pruned}[adapter.name]()
    moved = torch.linalg.inv(camera_to_world(0.5))
    written = adapter.with_gaussians(output, adapter.gaussians(output, B), moved)
    found = {
        "anysplat": lambda o: o.pred_context_pose["extrinsic"],
        "vicasplat": lambda o: o[POSES],
        "ecosplat": lambda o: o["extrinsics"]["c"],
    }[adapter.name](written)
    torch.testing.assert_close(found, camera_to_world(0.5))


def test_what_gsplat_renders_is_read_as_it_is():
    """Principal points beside the middle, all coefficients, next to no near plane, the background of the decoder."""
    output, adapter = voxels(), AnySplat()
    views = adapter.context_views(wrapper_of_anysplat(), stub.context()["image"], output)
    torch.testing.assert_close(views.intrinsics[..., 0, 2], torch.full((B, V), 0.4 * W))
    torch.testing.assert_close(views.intrinsics[..., 1, 2], torch.full((B, V), 0.6 * H))
    assert adapter.gaussians(output, B).harmonics.shape[-1] == 25 and (views.near < 1e-5).all()
    assert views.background.tolist() == [1, 1, 1]
    host = stub.wrapper()
    host.training = False
    seen = EcoSplat().context_views(host, stub.context(center=(0.4, 0.6)), pruned())
    torch.testing.assert_close(seen.intrinsics[..., 0, 2], torch.full((B, V), 0.4 * W))
    assert EcoSplat().gaussians(pruned(), B).harmonics.shape[-1] == 25 and (seen.near < 1e-5).all()


@pytest.mark.parametrize("use_gsplat", [False, True])
def test_vicasplat_renders_with_either_rasterizer(use_gsplat):
    host, adapter = vicasplat(use_gsplat), VicaSplat()
    adapter.attached(host)
    adapter.encoder(vicasplat(not use_gsplat))  # asking for an encoder changes nothing
    views = adapter.context_views(host, stub.context((-1.0, 1.0), (0.4, 0.6)), maps())
    principal, near, coefficients = (0.4, 0.5, 25) if use_gsplat else (0.5, 0.2 * 0.5, 16)
    torch.testing.assert_close(views.intrinsics[..., 0, 2], torch.full((B, V), principal * W))
    torch.testing.assert_close(views.near, torch.full((B, V), near))
    assert adapter.gaussians(maps(), B).harmonics.shape[-1] == coefficients


def test_targets_of_the_data_are_placed_among_anysplats_cameras():
    context = stub.context(views=3)
    poses = camera_to_world(0.6, views=3)  # twice the scale of the prediction
    batch = {
        "context": {"extrinsics": poses[:, :2], "image": context["image"][:, :2]},
        "target": {name: context[name][:, 2:] for name in ("image", "intrinsics")} | {"extrinsics": poses[:, 2:]},
    }
    adapter, output = AnySplat(), voxels()
    target = adapter.target_views(wrapper_of_anysplat(), batch, output)
    torch.testing.assert_close(target.world_to_camera[:, 0, 0, 3], torch.full((B,), -0.6))  # half of 1.2
    drawn = []
    wrapper = wrapper_of_anysplat()
    wrapper.model.decoder.forward = lambda *call: drawn.append(call) or SimpleNamespace(color=DRAWN)
    adapter.render_targets(wrapper, output, batch)
    (_, extrinsics, intrinsics, *_, size) = drawn[0]
    torch.testing.assert_close(extrinsics, torch.linalg.inv(target.world_to_camera))
    torch.testing.assert_close(intrinsics, batch["target"]["intrinsics"])
    assert tuple(size) == (H, W)


def test_images_of_anysplats_validation_are_brought_back():
    images = stub.context()["image"]
    torch.testing.assert_close(AnySplat().context_images(2 * images - 1), images)
    assert AnySplat().context_images(images) is images


def test_vicasplats_target_images_stay_in_their_range():
    batch = {"context": stub.context((-1.0, 1.0)), "target": stub.context()}
    views = VicaSplat().target_views(vicasplat(), batch, maps())
    torch.testing.assert_close(views.images, batch["target"]["image"])
    torch.testing.assert_close(views.world_to_camera, torch.linalg.inv(batch["target"]["extrinsics"]))


def test_vicasplats_context_is_drawn_by_the_predicted_cameras_and_its_targets_by_the_datas():
    drawn, wrapper, output = [], vicasplat(), maps()
    wrapper.decoder.forward = lambda *call: drawn.append(call) or SimpleNamespace(color=DRAWN)
    batch = {"context": stub.context((-1.0, 1.0)), "target": stub.context()}
    VicaSplat().render_context(wrapper, output, batch)
    VicaSplat().render_targets(wrapper, output, batch)
    assert torch.equal(drawn[0][1], output[POSES]) and torch.equal(drawn[1][1], batch["target"]["extrinsics"])


def test_vicasplat_is_not_refined_while_it_distills():
    assert VicaSplat().refinable(maps()) and not VicaSplat().refinable({POSES: camera_to_world()})


def test_spfsplats_head_reads_whichever_head_its_encoder_has():
    """V2's variant on VGGT has one head for all views, which its last convolutions follow; the others two."""
    large, small = nn.Module(), nn.Module()
    large.gaussian_param_head = nn.ModuleDict({"scratch": nn.ModuleDict({"output_conv2": nn.Conv2d(8, 4, 1)})})
    for name in ("gaussian_param_head", "gaussian_param_head2"):
        setattr(small, name, nn.ModuleDict({"dpt": nn.ModuleDict({"head": nn.Sequential(nn.Conv2d(6, 4, 1))})}))
    assert [FeatureTap(encoder, SPFSplat().tap_of(encoder)).channels for encoder in (large, small)] == [8, 6]
    tap = FeatureTap(large, SPFSplat().tap_of(large))
    seen = torch.rand(B * V, 8, H, W)
    large.gaussian_param_head["scratch"]["output_conv2"](seen)
    assert torch.equal(tap.take(B, V, H, W).flatten(0, 1), seen)
