"""C3G: few Gaussians on no grid beside features of theirs, and a dilation that its decoder narrows as it trains."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import host_stubs as stub
import pytest
import torch
from torch import Tensor

from diff3r_adapters.c3g import C3G
from diff3r_adapters.noposplat import NoPoSplat
from diff3r_plugin.plugin import Call
from diff3r_plugin.plugin.host.contract import AdapterContract, Example

COUNT = 20


@dataclass
class Scene(stub.HostGaussians):
    feature: Tensor | None = None


def wrapper(width: float = 0.3, every: int = -1, step: int = 0) -> Any:
    made = stub.wrapper(make_scale_invariant=True)
    made.global_step = step
    made.decoder.low_pass_filter, made.decoder.cfg = width, SimpleNamespace(decrease_lpf_step=every)
    return made


def call_of(stage: str = "test", features: bool = True, **decoder: Any) -> tuple[Call, Scene]:
    few = {name: value[:, :COUNT] for name, value in vars(stub.host_gaussians(coefficients=1)).items()}
    scene = Scene(**few, feature=torch.rand(stub.B, COUNT, 5) if features else None)
    batch = {"context": stub.context((-1.0, 1.0)), "target": stub.context()}
    parameters = ("context", "global_step", "visualization_dump", "context_feature")
    return Call(wrapper(**decoder), (batch["context"], 0), {}, batch, stage, parameters), scene


class TestC3G(AdapterContract):
    def example(self) -> Example:
        call, output = call_of()
        return Example(C3G(), call.wrapper, call.arguments[0], output, stub.B, call)


@pytest.mark.parametrize(
    "width, every, step, stage, dilation",
    [
        (10.0, 1000, 999, "train", 10.0),
        (10.0, 1000, 1000, "train", 10.0 / 3),  # its decoder narrows first, then renders
        (10.0, 1000, 0, "train", 10.0),
        (0.4, 1000, 3000, "train", 0.3),
        (0.3, 1000, 4000, "train", 0.3),
        (10.0, -1, 1000, "train", 10.0),
        (10.0, 1000, 1000, "val", 10.0),  # there it is not told the step
        (0.3, -1, 0, "test", 0.3),
    ],
)
def test_the_dilation_is_that_of_this_step(width: float, every: int, step: int, stage: str, dilation: float) -> None:
    call, output = call_of(stage, width=width, every=every, step=step)
    views = C3G().context_views(call.wrapper, call.arguments[0], output, call)
    assert views.dilation == pytest.approx(dilation) and not views.antialiased


@pytest.mark.parametrize("features", [True, False])
def test_features_are_carried_along(features: bool) -> None:
    adapter, (call, output) = C3G(), call_of(features=features)
    moved = dataclasses.replace(output, means=output.means + 1)
    changed = adapter.with_gaussians(output, adapter.gaussians(moved, stub.B, call), None, call)
    torch.testing.assert_close(changed.means, moved.means)
    assert changed.feature is output.feature


def test_it_is_a_noposplat_whose_gaussians_stand_on_no_grid() -> None:
    assert issubclass(C3G, NoPoSplat) and set(NoPoSplat.fingerprints) < set(C3G.fingerprints)
    assert C3G().alignment(torch.nn.Identity()) is None and C3G().tap_of(torch.nn.Identity()) is None
