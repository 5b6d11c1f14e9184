"""TokenGS: fourteen numbers a Gaussian, colors without harmonics, cameras in the model's input."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import host_stubs as stub
import torch
from torch import Tensor

from diff3r_adapters.tokengs import TokenGS
from diff3r_plugin.plugin import Call
from diff3r_plugin.plugin.host.contract import AdapterContract, Example
from diff3r_plugin.render import render

N = 21


@dataclass
class Reconstruction:
    gaussians: Tensor
    background_color: Tensor


def wrapper() -> SimpleNamespace:
    return SimpleNamespace(opt=SimpleNamespace(znear=0.025, zfar=125.0, workspace="somewhere"))


def output() -> Reconstruction:
    torch.manual_seed(2)
    means = torch.rand(stub.B, N, 3) + torch.tensor([-0.5, -0.5, 2.0])
    quats = torch.nn.functional.normalize(torch.randn(stub.B, N, 4), dim=-1)
    parts = [means, torch.rand(stub.B, N, 1), 0.1 + 0.1 * torch.rand(stub.B, N, 3), quats, torch.rand(stub.B, N, 3)]
    return Reconstruction(torch.cat(parts, -1), torch.full((3,), 0.5))


def call_of() -> Call:
    context = stub.context()
    pinholes = torch.tensor([7.0, 8.0, 4.0, 3.0]).expand(stub.B, stub.V, 4)
    encoder = SimpleNamespace(
        cam_to_world_input=context["extrinsics"], intrinsics_input=pinholes, images_rgb_unnormalized=context["image"]
    )
    batch = {
        "images_output": context["image"],
        "cam_view": torch.linalg.inv(context["extrinsics"]).mT,
        "intrinsics": pinholes,
    }
    model_input = SimpleNamespace(encoder=encoder)
    return Call(wrapper(), (model_input,), {}, batch, "test", ("model_input",))


class TestTokenGS(AdapterContract):
    def example(self) -> Example:
        call = call_of()
        return Example(TokenGS(), call.wrapper, call.arguments[0].encoder, output(), stub.B, call)


def test_context_and_targets_are_seen_by_the_same_kind_of_camera() -> None:
    adapter, call, scene = TokenGS(), call_of(), output()
    context = adapter.context_views(call.wrapper, adapter.context_of(call), scene, call)
    target = adapter.target_views(call.wrapper, call.batch, scene, call)
    torch.testing.assert_close(context.world_to_camera, target.world_to_camera)
    expected = torch.tensor([[7.0, 0, 4], [0, 8, 3], [0, 0, 1]])
    torch.testing.assert_close(context.intrinsics, expected.expand(stub.B, stub.V, 3, 3))
    assert torch.equal(context.background, torch.full((3,), 0.5)) and (context.near == 0.025).all()
    cameras = context.replace(images=None, image_size=(stub.H, stub.W))
    image = render(adapter.gaussians(scene, stub.B, call), cameras, "torch")
    assert image.std() > 0.01, "its scene is before its cameras"


def test_its_renderer_is_asked_in_its_own_words() -> None:
    adapter, call, scene = TokenGS(), call_of(), output()
    asked: list[Any] = []

    def drawing(*arguments: Any, **named: Any) -> dict[str, Any]:
        asked.append((arguments, named))
        return {"images_pred": "drawn"}

    call.wrapper.gs = SimpleNamespace(render=drawing)
    assert adapter.render_targets(call.wrapper, scene, call.batch, call) == "drawn"
    (arguments, named) = asked[0]
    assert arguments[0] is scene.gaussians and arguments[1] is call.batch["cam_view"]
    assert named["intrinsics"] is call.batch["intrinsics"] and named["bg_color"] is scene.background_color
