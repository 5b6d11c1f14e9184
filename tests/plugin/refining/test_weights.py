"""Where the proximal weights come from."""

from types import SimpleNamespace

import host_stubs as stub
import pytest
import torch
from plugin.stub_host import StubAdapter, run_context
from torch import nn

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.plugin import PluginError, hookimpl
from diff3r_plugin.plugin.host import registry
from diff3r_plugin.plugin.refining.weights import Weights
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.proximal import ProximalWeights

SETTINGS = {"weights": {"means": 3.0}, "head_width": 8}


def make_weights(settings, feature_channels, gaussians_per_pixel, **more):
    grids = (PixelGrid(per_pixel=gaussians_per_pixel),)
    return Weights(run_context(StubAdapter(), **settings, **more), feature_channels, grids)


def scene(per_pixel=1):
    adapter = StubAdapter()
    views = adapter.context_views(stub.wrapper(), stub.context(), None)
    return adapter.gaussians(stub.host_gaussians(per_pixel=per_pixel, coefficients=4), stub.B), views


def test_making_the_head_leaves_the_hosts_random_stream_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = make_weights(SETTINGS, 0, 1)
    assert torch.equal(torch.rand(3), wanted)
    torch.manual_seed(6)
    second = make_weights(SETTINGS, 0, 1)
    for one, other in zip(first.head.parameters(), second.head.parameters(), strict=True):
        assert torch.equal(one, other), "the head starts the same whatever the host's seed is"


def test_training_starts_from_the_given_weights():
    weights = make_weights(SETTINGS, 0, 1)(*scene(), None)
    assert weights.means.shape == (stub.B, stub.V * stub.H * stub.W, 1)
    assert torch.allclose(weights.means, torch.tensor(3.0))


@pytest.mark.parametrize("predicted", [1, 3])
def test_fewer_samples_a_pixel_than_the_head_was_made_for(predicted):
    weights = make_weights(SETTINGS, 0, 3)(*scene(per_pixel=predicted), None)
    assert weights.opacity.shape == (stub.B, stub.V * stub.H * stub.W * predicted, 1)


def test_gaussians_on_no_grid_get_the_head_that_looks_where_they_project():
    weights = Weights(run_context(StubAdapter(), **SETTINGS), 0, None)
    gaussians, views = scene()
    some = gaussians.map(lambda t: t[:, 3:40])
    assert torch.allclose(weights(some, views, None).means, torch.tensor(3.0))
    assert weights(some, views, None).means.shape == (stub.B, 37, 1)


@pytest.mark.parametrize("grids", [None, (PixelGrid(2), PixelGrid())], ids=["none", "two"])
@pytest.mark.parametrize("setting", [{"head_cross_view": True}, {"confidence": "learned"}], ids=str)
def test_what_compares_views_needs_one_grid(grids, setting):
    declared = "none" if grids is None else "2"
    with pytest.raises(PluginError, match=rf"need one Gaussian grid.*declares {declared}\. Leave"):
        Weights(run_context(StubAdapter(), **setting), 0, grids)


def test_fixed_weights_are_the_same_everywhere():
    settings = {"head": "fixed", "weights": {"means": 3.0}}
    weights = make_weights(settings, 0, 1)
    assert weights.head is None and weights(*scene(), None).means == 3.0
    assert set(weights.fixed.tensors()) == set(PluginSettings.parse(settings).tto.groups)


def test_another_package_can_bring_its_own_head():
    class Head(nn.Module):
        def forward(self, gaussians, views, features, backend):
            return ProximalWeights(means=torch.full_like(gaussians.means[..., :1], 7.0))

    asked = []

    def diff3r_head(adapter, settings, feature_channels):
        asked.append((adapter.name, feature_channels))
        return Head()

    plugin = SimpleNamespace(diff3r_head=hookimpl(diff3r_head))
    registry.manager().register(plugin)
    try:
        call_hook = registry.hook_caller(StubAdapter(), PluginSettings.parse(SETTINGS))
        weights = make_weights(SETTINGS, 12, 1, call_hook=call_hook)
    finally:
        registry.manager().unregister(plugin)
    assert asked == [("stub", 12)] and weights(*scene(), None).means.unique().item() == 7.0
