"""Feature maps are read where they pass, in the order (batch, view)."""

import pytest
import torch
from torch import nn

from diff3r_plugin.plugin import PluginError, Tap
from diff3r_plugin.plugin.host.feature_tap import FeatureTap

B, V, C, H, W = 2, 3, 4, 5, 6


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Identity(), nn.Conv2d(C, 2, 1))
        self.linear = nn.Linear(C, 2)
        self.silent = nn.Identity()


@pytest.fixture
def features():
    return torch.randn(B, V, C, H, W)


@pytest.mark.parametrize(
    ("module", "layout", "shaped"),
    [
        ("conv", "(b v) c h w", lambda f: f.flatten(0, 1)),
        ("conv", "(v b) c h w", lambda f: f.transpose(0, 1).flatten(0, 1)),
        ("linear", "b v (h w) c", lambda f: f.flatten(3).mT),
    ],
)
def test_layouts(features, module, layout, shaped):
    encoder = Encoder()
    tap = FeatureTap(encoder, Tap((module,), "input", layout))
    encoder.get_submodule(module)(shaped(features))
    assert tap.channels == C
    assert torch.equal(tap.take(B, V, H, W), features)


def test_output_side_and_its_channels(features):
    encoder = Encoder()
    tap = FeatureTap(encoder, Tap(("conv",), "output", "(b v) c h w"))
    wanted = encoder.conv(features.flatten(0, 1))
    found = tap.take(B, V, H, W)
    assert tap.channels == 2 and not found.requires_grad
    assert torch.equal(found.flatten(0, 1), wanted)


def test_one_call_a_view(features):
    encoder = nn.ModuleDict({"first": nn.Conv2d(C, 1, 1), "others": nn.Conv2d(C, 1, 1)})
    tap = FeatureTap(encoder, Tap(("first", "others"), "input", "b c h w"))
    for view, name in enumerate(("first", "others", "others")):
        encoder[name](features[:, view])
    assert torch.equal(tap.take(B, V, H, W), features)


def test_a_map_is_taken_once_and_can_be_forgotten(features):
    encoder = Encoder()
    tap = FeatureTap(encoder, Tap(("conv",), "input", "(b v) c h w"))
    encoder.conv(features.flatten(0, 1))
    tap.forget()
    with pytest.raises(PluginError, match="did not call conv"):
        tap.take(B, V, H, W)


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        (Tap(("nowhere",), "input", "b c h w"), "has no module 'nowhere'"),
        (Tap(("silent",), "input", "b c h w"), "state Tap.channels"),
    ],
)
def test_a_tap_that_cannot_work_is_refused_at_once(tap, message):
    with pytest.raises(PluginError, match=message):
        FeatureTap(Encoder(), tap)


def test_a_shape_that_does_not_fit_is_named(features):
    encoder = Encoder()
    tap = FeatureTap(encoder, Tap(("conv",), "input", "(b v) c h w"))
    encoder.conv(features[:, 0])
    with pytest.raises(PluginError, match=r"\[2, 4, 5, 6\].*'\(b v\) c h w'"):
        tap.take(B, V, H, W)


def test_removed_taps_read_nothing(features):
    encoder = Encoder()
    tap = FeatureTap(encoder, Tap(("conv",), "input", "(b v) c h w"))
    tap.remove()
    encoder.conv(features.flatten(0, 1))
    with pytest.raises(PluginError):
        tap.take(B, V, H, W)
