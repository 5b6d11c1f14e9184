"""An eighth group, added by its chart, its record and these tests alone: all that takes groups takes it."""

import pytest
import torch
from groups.vignetting.record import VIGNETTING
from scenes import random_scene

from diff3r_plugin import Adam, GaussNewton, Implicit, ProximalWeights, TTOConfig, TTOLayer, UncertaintyHead, Unroll
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.linearized import linearize_theta
from diff3r_plugin.render import render


@pytest.fixture(autouse=True)
def added(monkeypatch):
    monkeypatch.setitem(GROUPS, VIGNETTING.name, VIGNETTING)


@pytest.mark.parametrize("groups", [("means", "vignetting"), ("sh_dc", "exposure", "vignetting"), ("vignetting",)])
def test_products_are_those_of_the_jacobian(backend, groups):
    scene, views = random_scene(batch=2, views=3, gaussians=6, size=(7, 9))
    coordinates = Coordinates(scene, views, groups)
    theta = 0.2 * torch.randn(2, coordinates.num_unknowns, dtype=torch.float64)
    here = linearize_theta(coordinates, theta, views, backend)
    v, u, step = torch.randn_like(theta), torch.randn_like(here.image), 1e-6
    low, high = (linearize_theta(coordinates, theta + s * step * v, views, backend).image for s in (-1, 1))
    torch.testing.assert_close(here.jvp(v), (high - low) / (2 * step), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((here.vjp(u) * v).sum(), (u * here.jvp(v)).sum())
    pixels, zero = torch.rand_like(u[:, :, 0]), torch.zeros_like(theta)
    unit = torch.zeros_like(theta)
    unit[:, -1] = 1
    diagonal = here.gauss_newton_product(unit, pixels, zero)[:, -1]
    torch.testing.assert_close(here.gram_diagonal(pixels)[:, -1], diagonal)


def darkened():
    scene, views = random_scene(batch=1, views=2, gaussians=20, size=(12, 12))
    coordinates = Coordinates(scene, views, ("vignetting",))
    images = linearize_theta(coordinates, torch.tensor([[0.0, -0.8]]).double(), views, "torch").image
    return scene, views.replace(images=images), images


@pytest.mark.parametrize(
    "solver",
    [
        lambda: GaussNewton(steps=8),
        lambda: Adam(steps=60, learning_rates={"vignetting": 0.05}),
    ],
)
def test_the_layer_finds_what_the_lens_did_and_leaves_the_scene_alone(backend, solver):
    scene, views, images = darkened()
    layer = TTOLayer(solver=solver(), groups=("sh_dc", "vignetting"), backend=backend)
    refined, info = layer(scene, views, {"sh_dc": 1e3, "vignetting": 1e-6})
    assert float(info.energy[-1]) < 1e-2 * float(info.energy[0])
    rendered = render(refined, views.replace(images=None), backend)
    torch.testing.assert_close(rendered[:, 0], images[:, 0], atol=1e-2, rtol=0)
    assert (rendered[:, 1] - images[:, 1]).abs().max() > 0.05, "the darkening is the view's, not the scene's"


def gradient_of(backward):
    scene, views, _ = darkened()
    weight = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    solver = GaussNewton(steps=6, pcg_iterations=30, pcg_tolerance=1e-13, stationarity_tolerance=0.0, damping=1e-6)
    layer = TTOLayer(solver=solver, backward=backward, groups=("sh_dc", "vignetting"), backend="torch")
    layer(scene, views, {"sh_dc": 1e-2, "vignetting": weight})[0].harmonics[..., 0].square().sum().backward()
    return weight.grad


def test_the_gradient_by_its_weight_is_that_of_the_unrolled_run():
    exact, found = gradient_of(Unroll()), gradient_of(Implicit(pcg_iterations=30, pcg_tolerance=1e-13))
    assert exact != 0
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0)


def test_settings_weights_and_heads_know_it():
    assert TTOConfig(groups=("means", "vignetting")).learning_rate("vignetting") == VIGNETTING.rate
    assert ProximalWeights.of(2.0).vignetting == 2.0 and "vignetting" not in TTOConfig().groups
    head = UncertaintyHead(("means", "vignetting"))
    assert head.view_groups == ("vignetting",)
    assert head.base_weights()["vignetting"] == pytest.approx(VIGNETTING.weight)
    with pytest.raises(ValueError, match=r"Unknown group 'vigneting'.*vignetting"):
        ProximalWeights(vigneting=1.0)


def test_a_record_says_what_is_wrong_with_it():
    from diff3r_plugin.groups import Group

    with pytest.raises(ValueError, match="owner must be 'view'"):
        Group("glow", "gaussian", 1, rate=0.1, weight=1.0, images=VIGNETTING.images)
    with pytest.raises(ValueError, match="rate=0 of group 'glow' must be positive"):
        Group("glow", "view", 1, rate=0, weight=1.0)
