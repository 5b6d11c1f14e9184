"""Reversed Gauss-Newton steps: the derivative of the steps that were made, not of a minimizer that was not reached."""

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin import GaussNewton, Outcome, Stepwise, TTOLayer, Unroll

EXACT = dict(pcg_iterations=300, pcg_tolerance=1e-14)


def colored(batch=1, seed=0):
    """A scene of which only colors move, none of them clamped: the residual is linear in θ."""
    scene, views = random_scene(batch=batch, gaussians=5, size=(6, 7), degree=0, seed=seed)
    return scene.map(torch.clone), views


def gradients(layer, scene, views, pixels):
    """Of a loss at the solution, to everything that can have one."""
    harmonics = scene.harmonics.clone().requires_grad_()
    scene = type(scene)(scene.means, scene.covariances, scene.opacities, harmonics)
    # All different: with equal eigenvalues PCG ends before its own derivative, which unrolling takes, has converged.
    weights = torch.linspace(0.2, 0.6, scene.num_gaussians * 3, dtype=scene.dtype).reshape(1, -1, 3)
    weights = weights.repeat(scene.batch_size, 1, 1).requires_grad_()
    images, pixels = views.images.clone().requires_grad_(), pixels.clone().requires_grad_()
    refined, info = layer(scene, views.replace(images=images), {"sh_dc": weights}, pixels)
    loss = ((refined.harmonics - 0.2) ** 2).sum() + (refined.harmonics**3).sum()
    return torch.autograd.grad(loss, [harmonics, weights, images, pixels]), info


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("damping", [0.1, 3.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_unrolling_where_the_residual_is_linear_however_far_the_solver_got(steps, damping, batch):
    scene, views = colored(batch)
    pixels = 0.5 + torch.rand_like(views.images[:, :, 0])
    solver = GaussNewton(steps=steps, damping=damping, stationarity_tolerance=0.0, **EXACT)
    options = dict(solver=solver, groups=("sh_dc",), backend="torch")
    ours, info = gradients(TTOLayer(backward=Stepwise(**EXACT), **options), scene, views, pixels)
    unrolled, _ = gradients(TTOLayer(backward=Unroll(), **options), scene, views, pixels)
    assert (info.accepted_steps == steps).all()
    for one, other in zip(ours, unrolled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_scene_that_stands_still_has_the_gradient_it_has_alone():
    """One scene is stationary from the start; the other goes on."""
    scene, views = colored(2)
    pixels = torch.ones_like(views.images[:, :, 0])
    pixels[1] = 0
    solver = GaussNewton(steps=4, damping=1.0, stationarity_tolerance=0.05, **EXACT)
    layer = TTOLayer(solver=solver, backward=Stepwise(**EXACT), groups=("sh_dc",))
    together, info = gradients(layer, scene, views, pixels)
    assert info.accepted_steps[0] > 0 and info.accepted_steps[1] == 0
    for one in range(2):
        part = slice(one, one + 1)
        alone, _ = gradients(
            layer,
            scene.map(lambda t, part=part: t[part]),
            views.replace(
                **{n: getattr(views, n)[part] for n in ("images", "world_to_camera", "intrinsics", "near", "far")}
            ),
            pixels[part],
        )
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[part], b, rtol=1e-7, atol=1e-10)


def test_all_backends_give_the_same_gradient(backend):
    scene, views = refinable_scene(batch=2)
    found = {}
    for name in (backend, "torch"):
        leaf = scene.map(lambda t: t.clone().requires_grad_())
        weights = torch.full((*scene.opacities.shape, 1), 0.3, dtype=scene.dtype, requires_grad=True)
        layer = TTOLayer(solver=GaussNewton(steps=3), backward=Stepwise(), backend=name)
        refined, _ = layer(leaf, views, weights)
        loss = sum(t.square().sum() for t in refined.tensors())
        found[name] = torch.autograd.grad(loss, [*leaf.tensors(), weights])
    for ours, oracle in zip(found[backend], found["torch"], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-9)


def test_is_nearer_to_the_derivative_of_the_steps_than_the_implicit_gradient():
    """Few steps, small weights: far from stationarity, where the implicit function theorem does not hold."""
    from diff3r_plugin import Implicit

    cosines = {"stepwise": [], "implicit": []}
    for seed in range(4):
        scene, views = random_scene(gaussians=12, views=2, size=(12, 12), degree=0, seed=seed)
        grads = {}
        modes = {
            "unroll": Unroll(),
            "stepwise": Stepwise(pcg_iterations=8),
            "implicit": Implicit(stationarity_warning=None),
        }
        for name, backward in modes.items():
            leaf = scene.map(lambda t: t.clone().requires_grad_())
            layer = TTOLayer(solver=GaussNewton(steps=3), backward=backward, backend="torch")
            refined, _ = layer(leaf, views, 0.01)
            loss = sum((t - t.detach().roll(1, 1)).square().sum() for t in refined.tensors())
            grads[name] = torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaf.tensors())])
        for name, values in cosines.items():
            values.append(float(torch.cosine_similarity(grads[name], grads["unroll"], dim=0)))
    mean = {name: sum(values) / len(values) for name, values in cosines.items()}
    assert mean["stepwise"] > mean["implicit"]


def test_statistics_are_those_of_all_solves_and_a_broken_scene_stays_alone():
    scene, views = refinable_scene(batch=2)
    broken = scene.map(torch.clone)
    broken.means[1, 0] = float("nan")
    leaf = broken.map(lambda t: t.clone().requires_grad_())
    refined, info = TTOLayer(solver=GaussNewton(steps=3), backward=Stepwise(pcg_iterations=5))(leaf, views, 0.3)
    assert info.outcomes[1] is Outcome.INVALID_GAUSSIANS and info.backward is None
    gradient = torch.autograd.grad(refined.harmonics[0].square().sum(), leaf.harmonics)[0]
    assert gradient[0].abs().sum() > 0 and gradient.isfinite().all()
    assert info.backward is not None and 0 < int(info.backward.iterations[0]) <= 5 * int(info.accepted_steps[0])


def test_another_solver_is_refused_with_the_cure():
    from diff3r_plugin import Adam

    scene, views = refinable_scene()
    leaf = scene.map(lambda t: t.clone().requires_grad_())
    with pytest.raises(ValueError, match="reverses Gauss-Newton steps; got the solver Adam"):
        TTOLayer(solver=Adam(), backward=Stepwise())(leaf, views, 0.3)
