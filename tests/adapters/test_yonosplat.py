"""YoNoSplat: cameras in the caller's dictionary, points placed by them or by the data's, a decoder that drops."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import host_stubs as stub
import pytest
import torch
from torch import Tensor

from diff3r_adapters.yonosplat import DUMP, YoNoSplat
from diff3r_plugin.plugin import Call
from diff3r_plugin.plugin.host.contract import AdapterContract, Example

PARAMETERS = ("context", "global_step", DUMP)


@dataclass
class Scene(stub.HostGaussians):
    rotations: Tensor | None = None
    scales: Tensor | None = None


class GSPlat:
    """Named like the host's decoder."""


def wrapper(threshold: float = 0.3, training: bool = False, by_gsplat: bool = True) -> SimpleNamespace:
    made = stub.wrapper(make_scale_invariant=True)
    decoder = type("DecoderSplattingGSPlat" if by_gsplat else "DecoderSplattingCUDA", (), vars(made.decoder))()
    decoder.cfg, decoder.training = SimpleNamespace(prune_opacity_threshold=threshold), training
    made.decoder = decoder
    return made


def call_of(placed_by: str = "predicted", **options: Any) -> tuple[Call, Scene]:
    """A call whose points stand where the predicted cameras, or those of the data, put them."""
    context, scene = stub.context(), stub.host_gaussians()
    predicted = context["extrinsics"].clone()
    predicted[:, 1, 0, 3] += 0.3
    local = torch.rand(stub.B, stub.V, stub.H, stub.W, 1, 3) + torch.tensor([0.0, 0, 2])
    cameras = predicted if placed_by == "predicted" else context["extrinsics"]
    means = torch.einsum("bvij,bvhwsj->bvhwsi", cameras[..., :3, :3], local) + cameras[:, :, None, None, None, :3, 3]
    dump = {
        "local_pts": local,
        "means": means,
        "pred_camera_poses": predicted,
        "c2w": predicted,
        "scales": torch.ones(1),
    }
    output = Scene(means.flatten(1, 4), scene.covariances, scene.harmonics, scene.opacities)
    batch = {"context": context, "target": stub.context()}
    return Call(wrapper(**options), (context, 0), {DUMP: dump}, batch, "test", PARAMETERS), output


class TestYoNoSplat(AdapterContract):
    def example(self) -> Example:
        call, output = call_of()
        return Example(YoNoSplat(), call.wrapper, call.arguments[0], output, stub.B, call)


@pytest.mark.parametrize("placed_by", ["predicted", "batch"])
def test_the_cameras_that_placed_the_points_are_told(placed_by: str) -> None:
    assert YoNoSplat().poses_source(call_of(placed_by)[0]) == placed_by


def test_refined_cameras_go_where_its_losses_and_its_own_optimization_read_them() -> None:
    adapter, (call, output) = YoNoSplat(), call_of()
    adapter.encoder(call.wrapper)
    moved = torch.linalg.inv(call.argument(DUMP)["c2w"].roll(1, 1))
    adapter.with_gaussians(output, adapter.gaussians(output, stub.B, call), moved, call)
    views = adapter.context_views(call.wrapper, call.arguments[0], output, call)
    torch.testing.assert_close(views.world_to_camera, moved)
    assert torch.equal(call.argument(DUMP)["pred_camera_poses"], call.argument(DUMP)["c2w"])
    target = adapter.target_views(call.wrapper, call.batch, output, call)
    torch.testing.assert_close(target.world_to_camera, torch.linalg.inv(stub.context()["extrinsics"]))


def test_what_its_decoder_drops_at_test_is_told_and_nothing_in_training() -> None:
    adapter, (call, output) = YoNoSplat(), call_of()
    gaussians = adapter.gaussians(output, stub.B, call)
    kept = adapter.visible(call, gaussians)
    assert kept is not None and torch.equal(kept, output.opacities > 0.3)
    assert adapter.visible(call_of(training=True)[0], gaussians) is None
    assert adapter.visible(call_of(threshold=0.0)[0], gaussians) is None


def test_each_of_its_renderers_has_its_cameras() -> None:
    adapter, (call, output) = YoNoSplat(), call_of()
    adapter.encoder(call.wrapper)
    by_gsplat = adapter.context_views(call.wrapper, call.arguments[0], output, call)
    assert adapter.evaluated == 25 and (by_gsplat.near == 0.01).all()
    call, output = call_of(by_gsplat=False)
    adapter.encoder(call.wrapper)
    by_cuda = adapter.context_views(call.wrapper, call.arguments[0], output, call)
    assert adapter.evaluated == 16 and torch.allclose(by_cuda.near, torch.tensor(0.1))
