"""ReSplat: two stages, a coarse grid, rotations in the frames of the views, renderings that an update returns."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import host_stubs as stub
import pytest
import torch
from torch import Tensor

from diff3r_adapters.resplat import ReSplat
from diff3r_plugin import Gaussians
from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.plugin import Call
from diff3r_plugin.plugin.host.contract import AdapterContract, Example
from diff3r_plugin.render import render

PARAMETERS = {
    0: ("context", "global_step", "deterministic"),
    1: ("context", "target", "condition_features", "init_gaussians", "renderer", "context_remain"),
}


@dataclass
class Scene(stub.HostGaussians):
    scales: Tensor | None = None
    rotations: Tensor | None = None
    rotations_unnorm: Tensor | None = None


@dataclass
class Drawn:
    color: Tensor


class Decoder:
    """Renders as the host's does: world covariances antialiased at 0.1 px², near and far of the first view."""

    def __init__(self, use_covariances: bool) -> None:
        self.cfg = SimpleNamespace(use_covariances=use_covariances)

    def forward(self, scene: Any, extrinsics: Tensor, intrinsics: Tensor, near: Tensor, far: Tensor, size: Any) -> Any:
        context = {"extrinsics": extrinsics, "intrinsics": intrinsics, "near": near, "far": far}
        views = ReSplat().context_views(stub.wrapper(), {**context, "image": torch.zeros(*near.shape, 3, *size)}, None)
        harmonics = scene.harmonics
        if self.cfg.use_covariances:
            drawn = Gaussians(scene.means, scene.covariances, scene.opacities, harmonics)
        else:
            drawn = Gaussians.from_scales(scene.means, scene.scales, scene.rotations_unnorm, scene.opacities, harmonics)
        return Drawn(render(drawn, views))


def host_scene(context: dict) -> Scene:
    """Two by two Gaussians for each square of eight by eight pixels; covariances in the world, rotations are not."""
    torch.manual_seed(0)
    count = stub.V * (stub.H // 2) * (stub.W // 2)
    scene = stub.host_gaussians(coefficients=16)
    scales, quats = 0.2 + 0.3 * torch.rand(stub.B, count, 3), torch.randn(stub.B, count, 4)
    cameras = context["extrinsics"][..., :3, :3].repeat_interleave(count // stub.V, 1)
    factor = cameras @ rotation_matrices(quats) * scales[..., None, :]
    unit = quats / quats.norm(dim=-1, keepdim=True)
    flat = (scene.means[:, :count], factor @ factor.mT, scene.harmonics[:, :count], scene.opacities[:, :count])
    return Scene(*flat, scales, unit, quats)


def camera_of(part: dict) -> tuple[Tensor, ...]:
    return tuple(part[name] for name in ("extrinsics", "intrinsics", "near", "far"))


def call_of(updates: int, use_covariances: bool = True) -> tuple[Call, Any]:
    wrapper = stub.wrapper()
    cfg = SimpleNamespace(num_refine=updates, latent_downsample=4, init_gaussian_multiple=4)
    wrapper.encoder, wrapper.decoder = SimpleNamespace(cfg=cfg), Decoder(use_covariances)
    context, target = stub.context(), stub.context()
    scene = host_scene(context)
    batch = {"context": context, "target": target}
    if not updates:
        output = {"gaussians": scene, "depths": torch.rand(1)}
        return Call(wrapper, (context, 0, False), {}, batch, "test", PARAMETERS[0]), output
    drawn = {
        key: [Drawn(torch.rand(1)), wrapper.decoder.forward(scene, *camera_of(part), (stub.H, stub.W))]
        for key, part in (("render", target), ("render_input", context))
    }
    output = {"gaussian": [host_scene(context), scene], **drawn}
    arguments = (context, target, torch.rand(1), scene, wrapper.decoder, None)
    return Call(wrapper, arguments, {}, batch, "test", PARAMETERS[1]), output


class TestFirstStage(AdapterContract):
    def example(self) -> Example:
        call, output = call_of(0)
        return Example(ReSplat(), call.wrapper, call.arguments[0], output, stub.B, call)


class TestSecondStage(AdapterContract):
    def example(self) -> Example:
        call, output = call_of(2)
        return Example(ReSplat(), call.wrapper, call.arguments[0], output, stub.B, call)


@pytest.mark.parametrize("updates", [0, 2])
def test_the_configuration_says_which_method_and_which_features(updates: int) -> None:
    encoder = call_of(updates)[0].wrapper.encoder
    adapter = ReSplat()
    assert adapter.refined_of(encoder).name == ("forward_update" if updates else "forward")
    assert adapter.tap_of(encoder).modules == (("update_proj",) if updates else ("gaussian_regressor",))
    (grid,) = adapter.alignment(encoder)
    assert (
        grid.count(stub.V, stub.H, stub.W)
        == call_of(updates)[1].get("gaussians", host_scene(stub.context())).means.shape[1]
    )


@pytest.mark.parametrize("use_covariances", [True, False])
@pytest.mark.parametrize("updates", [0, 2])
def test_what_we_read_is_what_its_decoder_renders(updates: int, use_covariances: bool) -> None:
    adapter, (call, output) = ReSplat(), call_of(updates, use_covariances)
    gaussians = adapter.gaussians(output, stub.B, call)
    views = adapter.context_views(call.wrapper, call.argument("context"), output, call)
    assert views.antialiased and views.dilation == 0.1
    own = adapter.render_context(call.wrapper, output, call.batch, call)
    torch.testing.assert_close(render(gaussians, views), own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("use_covariances", [True, False])
def test_every_description_of_a_shape_is_the_refined_one(use_covariances: bool) -> None:
    adapter, (call, output) = ReSplat(), call_of(2, use_covariances)
    gaussians = adapter.gaussians(output, stub.B, call)
    assert gaussians.scales is not None and gaussians.quats is not None
    moved = gaussians.replace(scales=1.5 * gaussians.scales, quats=gaussians.quats + 0.2)
    scene = adapter.scene(adapter.with_gaussians(output, moved, None, call))
    torch.testing.assert_close(scene.scales, moved.scales)
    again = adapter.gaussians({"gaussians": scene}, stub.B, call)
    torch.testing.assert_close(again.covariance_matrices, moved.covariance_matrices, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scene.covariances, moved.covariance_matrices, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scene.rotations.norm(dim=-1), torch.ones(scene.rotations.shape[:2]))


def test_what_an_update_rendered_is_rendered_again_with_gradients_and_earlier_updates_stay() -> None:
    adapter, (call, output) = ReSplat(), call_of(2)
    gaussians = adapter.gaussians(output, stub.B, call).map(lambda value: value.clone().requires_grad_())
    changed = adapter.with_gaussians(output, gaussians, None, call)
    assert changed["gaussian"][0] is output["gaussian"][0] and len(changed["gaussian"]) == 2
    for key, part in (("render", "target"), ("render_input", "context")):
        assert changed[key][0] is output[key][0] and changed[key][-1] is not output[key][-1]
        drawn = changed[key][-1].color
        expected = adapter.rendered(call.wrapper, changed, call.batch[part])
        torch.testing.assert_close(drawn, expected)
    changed["render"][-1].color.sum().backward()
    assert gaussians.means.grad is not None and gaussians.means.grad.abs().sum() > 0


def test_without_targets_only_the_context_is_rendered_again() -> None:
    adapter, (call, output) = ReSplat(), call_of(2)
    alone = Call(call.wrapper, (call.arguments[0], None, *call.arguments[2:]), {}, call.batch, "test", PARAMETERS[1])
    changed = adapter.with_gaussians({**output, "render": []}, adapter.gaussians(output, stub.B, call), None, alone)
    assert changed["render"] == [] and changed["render_input"][-1] is not output["render_input"][-1]
