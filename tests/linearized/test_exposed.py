"""Per-view exposures: image = gain · rendering + bias, with the products of the whole."""

import functools

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, GaussNewton, Implicit, Stepwise, TTOLayer, Unroll
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups.exposure import LARGEST_LOG_GAIN
from diff3r_plugin.linearized import linearize_theta
from diff3r_plugin.render import render

GROUPS = ("means", "sh_dc", "poses", "exposure")


def problem(groups=GROUPS, size=0.2):
    scene, views = random_scene(batch=2, views=3, gaussians=6, size=(7, 9))
    coordinates = Coordinates(scene, views, groups)
    torch.manual_seed(1)
    return coordinates, views, size * torch.randn(2, coordinates.num_unknowns, dtype=torch.float64)


def test_without_change_the_images_are_the_renderings(backend):
    coordinates, views, _ = problem()
    zero = torch.zeros(2, coordinates.num_unknowns, dtype=torch.float64)
    torch.testing.assert_close(
        linearize_theta(coordinates, zero, views, backend).image, render(coordinates.reference, views, backend)
    )


def test_images_are_gain_times_rendering_plus_bias(backend):
    coordinates, views, _ = problem(("opacity", "exposure"))
    theta = torch.zeros(2, coordinates.num_unknowns, dtype=torch.float64)
    theta[:, coordinates.first_unknown("exposure") :] = torch.tensor([0.3, -0.2, 0, 0.1, 0, -0.1]).repeat(3).double()
    rendering = render(coordinates.reference, views, backend)
    gain = torch.tensor([0.3, -0.2, 0.0]).double().exp()[:, None, None]
    bias = torch.tensor([0.1, 0.0, -0.1]).double()[:, None, None]
    torch.testing.assert_close(linearize_theta(coordinates, theta, views, backend).image, gain * rendering + bias)


@pytest.mark.parametrize(
    "groups", [GROUPS, ("covariance", "opacity", "sh_rest", "exposure"), ("exposure", "sh_dc"), ("exposure",)]
)
def test_products_are_those_of_the_jacobian(backend, groups):
    coordinates, views, theta = problem(groups)
    here = linearize_theta(coordinates, theta, views, backend)
    v, u = torch.randn_like(theta), torch.randn_like(here.image)
    step = 1e-6

    def image(at):
        return linearize_theta(coordinates, at, views, backend).image

    numeric = (image(theta + step * v) - image(theta - step * v)) / (2 * step)
    torch.testing.assert_close(here.jvp(v), numeric, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((here.vjp(u) * v).sum(), (u * here.jvp(v)).sum())
    pixels, diagonal = torch.rand_like(u[:, :, 0]), torch.rand_like(theta)
    expected = here.vjp(pixels[:, :, None] * here.jvp(v)) + diagonal * v
    torch.testing.assert_close(here.gauss_newton_product(v, pixels, diagonal), expected)
    weights, center = torch.rand_like(theta), torch.randn_like(theta)
    torch.testing.assert_close(here.gradient(u, weights, center), here.vjp(u) + weights * (theta - center))
    torch.testing.assert_close(here.weighted_distance(weights, center), (weights * (theta - center) ** 2).sum(-1))


def test_the_diagonal_is_exact_where_channels_share_their_gain(backend):
    coordinates, views, theta = problem(("means", "sh_dc", "exposure"))
    own = theta[:, coordinates.first_unknown("exposure") :].unflatten(1, (3, 6))
    own[..., 1:3] = own[..., :1]
    here = linearize_theta(coordinates, theta, views, backend)
    pixels, zero = torch.rand_like(here.image[:, :, 0]), torch.zeros_like(theta)
    found = here.gram_diagonal(pixels)
    for k in (0, 20, coordinates.num_unknowns - 18, coordinates.num_unknowns - 1):
        unit = torch.zeros_like(theta)
        unit[:, k] = 1
        torch.testing.assert_close(found[:, k], here.gauss_newton_product(unit, pixels, zero)[:, k])


def test_gains_end_where_no_camera_goes(backend):
    coordinates, views, theta = problem(("sh_dc", "exposure"), size=0)
    theta[:, coordinates.first_unknown("exposure")] = 2 * LARGEST_LOG_GAIN
    here = linearize_theta(coordinates, theta, views, backend)
    assert here.image.isfinite().all()
    assert here.vjp(torch.ones_like(here.image))[:, coordinates.first_unknown("exposure")].eq(0).all()


def corrupted(gain=1.5, bias=0.05, gaussians=40, size=(24, 24)):
    """A scene whose second view was taken with another exposure."""
    scene, views = random_scene(views=3, gaussians=gaussians, size=size, seed=3)
    harmonics = torch.zeros_like(scene.harmonics)
    harmonics[..., 0] = 0.4 * torch.rand(harmonics.shape[:3], generator=torch.Generator().manual_seed(0)).double()
    truth = Gaussians(scene.means, scene.covariances, scene.opacities, harmonics - 0.8)
    images = render(truth, views)
    images[:, 1] = gain * images[:, 1] + bias
    start = Gaussians(scene.means, scene.covariances, scene.opacities, harmonics * 0 - 0.6)
    return start, views.replace(images=images)


def test_the_layer_finds_the_exposure_of_a_view_that_may_move(backend):
    scene, views = corrupted()
    layer = TTOLayer(solver=GaussNewton(steps=15, pcg_iterations=20), groups=("sh_dc", "exposure"), backend=backend)
    held = torch.tensor([1e6, 1e-3, 1e6]).reshape(1, 3, 1)
    refined, info = layer(scene, views, {"sh_dc": 1e-4, "exposure": held})
    torch.testing.assert_close(info.exposure.gain[0, 1], torch.full((3,), 1.5).double(), rtol=0.1, atol=0)
    torch.testing.assert_close(info.exposure.bias[0, 1], torch.full((3,), 0.05).double(), rtol=0, atol=0.02)
    error = (render(refined, views)[:, 0] - views.images[:, 0]).abs().max()
    assert error < 0.02, "the scene itself is that of the other views"
    assert layer(scene, views, {"sh_dc": 1e-4, "exposure": 1.0})[1].exposure is not None
    assert TTOLayer(groups=("sh_dc",), backend=backend)(scene, views, 1.0)[1].exposure is None


def gradients(backward, backend, names=("sh_dc", "exposure")):
    scene, views = corrupted(gain=1.1, bias=0.02, gaussians=6, size=(8, 8))
    leaf = scene.harmonics.clone().requires_grad_()
    weights = {name: torch.tensor(0.01, dtype=torch.float64, requires_grad=True) for name in names}
    images = views.images.clone().requires_grad_()
    layer = TTOLayer(
        solver=GaussNewton(steps=6, pcg_iterations=30, pcg_tolerance=1e-13, stationarity_tolerance=0.0, damping=1e-6),
        backward=backward,
        groups=names,
        backend=backend,
    )
    start = type(scene)(scene.means, scene.covariances, scene.opacities, leaf)
    refined, _ = layer(start, views.replace(images=images), weights)
    refined.harmonics[..., 0].square().sum().backward()
    return [leaf.grad, images.grad, *(w.grad for w in weights.values())]


@functools.cache
def unrolled():
    return gradients(Unroll(), "torch")


@pytest.mark.parametrize("mode", [Implicit, Stepwise], ids=["implicit", "stepwise"])
def test_gradients_through_exposures_are_those_of_the_unrolled_run(mode, backend):
    """At a good solution, where what is left out, second derivatives times residuals, vanishes."""
    exact = unrolled()
    found = gradients(mode(pcg_iterations=30, pcg_tolerance=1e-13), backend)
    for a, b in zip(found, exact, strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99
        torch.testing.assert_close(a.norm(), b.norm(), rtol=0.1, atol=0)
