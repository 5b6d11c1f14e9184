"""Both inner solvers: never uphill, scenes independent, and at the minimum they agree."""

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.objective import Objective
from diff3r_plugin.optimize import Adam, GaussNewton, minimize
from diff3r_plugin.render import render

GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest")


def solver(name, rate=0.02, **options):
    options = {"stationarity_tolerance": 0.0, **options}
    if name == "adam":
        return Adam(learning_rates=dict.fromkeys(GROUPS, rate), **options)
    return GaussNewton(pcg_iterations=30, pcg_tolerance=1e-3, damping=1e-3, **options)


def problem(backend, weight=0.1, make=refinable_scene, **options):
    scene, views = make(**options)
    coordinates = Coordinates(scene, views, GROUPS)
    zero = torch.zeros(scene.batch_size, coordinates.num_unknowns, dtype=torch.float64)
    return Objective(coordinates, views, zero, torch.full_like(zero, weight), backend=backend), zero


@pytest.mark.parametrize("name", ["gauss_newton", "adam"])
@pytest.mark.parametrize("seed", range(3))
def test_energy_never_rises(backend, name, seed):
    # Random images: far from anything the scene can show, so that many steps must be refused.
    objective, zero = problem(backend, 1e-4, random_scene, batch=2, gaussians=6, size=(8, 8), seed=seed)
    solution = minimize(solver(name, rate=0.5, steps=6), objective, zero)
    assert (solution.energy[1:] <= solution.energy[:-1]).all()
    # Some of these scenes end with covariances of 1e18, for which another way to the same θ rounds to another image.
    torch.testing.assert_close(solution.energy[-1], objective.linearize(solution.theta).energy)
    torch.testing.assert_close(solution.energy[0], objective.energy(zero))


@pytest.mark.slow
def test_both_solvers_find_the_same_minimum():
    objective, zero = problem("torch", weight=1.0, batch=2, gaussians=6, size=(10, 10))
    newton = minimize(solver("gauss_newton", steps=15), objective, zero)
    adam = minimize(solver("adam", rate=0.005, steps=300), objective, zero)
    torch.testing.assert_close(newton.energy[-1], adam.energy[-1], rtol=1e-4, atol=0)
    assert (newton.stationarity < 1e-4).all()


def test_gauss_newton_needs_far_fewer_steps_than_adam(backend):
    objective, zero = problem(backend, weight=0.01)
    newton = minimize(solver("gauss_newton", steps=4), objective, zero)
    adam = minimize(solver("adam", steps=20), objective, zero)
    assert (newton.energy[-1] < adam.energy[-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gauss_newton", "adam"])
def test_a_batch_is_solved_as_its_scenes_alone(backend, name):
    together, zero = problem(backend, batch=3, gaussians=6, size=(9, 9))
    both = minimize(solver(name, steps=4), together, zero)
    for i in range(3):
        c, v = together.coordinates, together.views
        scene = c.reference.map(lambda t, i=i: t[i : i + 1])
        views = v.replace(
            images=v.images[i : i + 1],
            world_to_camera=v.world_to_camera[i : i + 1],
            intrinsics=v.intrinsics[i : i + 1],
            near=v.near[i : i + 1],
            far=v.far[i : i + 1],
        )
        coordinates = Coordinates(scene, views, GROUPS)
        objective = Objective(coordinates, views, zero[i : i + 1], zero[i : i + 1] + 0.1, backend=backend)
        alone = minimize(solver(name, steps=4), objective, zero[i : i + 1])
        torch.testing.assert_close(both.theta[i], alone.theta[0], rtol=1e-6, atol=1e-8)


def test_stops_when_stationary(backend):
    objective, zero = problem(backend, weight=10.0, gaussians=6)
    solution = minimize(solver("gauss_newton", steps=30, stationarity_tolerance=1e-2), objective, zero)
    assert (solution.stationarity < 1e-2).all()
    assert solution.accepted_steps.max() < 10
    assert solution.energy.shape[0] == 31


def test_zero_steps_return_the_start(backend):
    objective, zero = problem(backend)
    solution = minimize(solver("adam", steps=0), objective, zero)
    assert torch.equal(solution.theta, zero) and (solution.stationarity == 1).all()


def perfect(**options):
    """A scene whose images are its own renderings, but for rounding."""
    scene, views = random_scene(**options)
    return scene, views.replace(images=render(scene, views, "native"))


def test_a_gradient_that_is_rounding_is_not_followed():
    objective, zero = problem("torch", make=perfect)
    solution = minimize(solver("gauss_newton", steps=3), objective, zero)
    assert (objective.linearize(zero).gradient != 0).any(), "else this says nothing of rounding"
    assert solution.stationary_start.all()
    assert solution.solves.iterations.sum() == 0 and torch.equal(solution.theta, zero)


@pytest.mark.parametrize("name", ["gauss_newton", "adam"])
def test_where_no_pixel_counts_the_start_is_stationary(backend, name):
    objective, zero = problem(backend)
    blind = Objective(
        objective.coordinates,
        objective.views,
        zero,
        objective.proximal_weights,
        torch.zeros_like(objective.pixel_weights),
        backend,
    )
    solution = minimize(solver(name, steps=3), blind, zero)
    assert solution.stationarity.eq(0).all() and solution.stationary_start.all()
