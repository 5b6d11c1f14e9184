"""The implicit gradient where its linear solve was truncated."""

import warnings
from dataclasses import replace

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin import GaussNewton, Implicit, StationarityWarning, TTOLayer
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.objective import Objective
from diff3r_plugin.optimize import minimize
from diff3r_plugin.render import linearize


def test_a_linear_solve_that_was_cut_short_falls_back_towards_the_first_order_gradient():
    """∂L/∂θ0 = g − JᵀJ v, not Λ ⊙ v: what PCG did not explain is passed on. J is made column by column here."""
    scene, views = random_scene(gaussians=6, size=(6, 7), degree=0)
    lin = linearize(scene, views, "torch")
    columns = []
    for i in range(scene.harmonics.numel()):
        unit = scene.map(torch.zeros_like)
        unit.harmonics.view(-1)[i] = 1
        columns.append(lin.jvp(unit).flatten())
    J = torch.stack(columns, -1)
    harmonics = scene.harmonics.clone().requires_grad_()
    weights = torch.full((1, 6, 3), 0.01, dtype=torch.float64, requires_grad=True)
    leaf = type(scene)(scene.means, scene.covariances, scene.opacities, harmonics)
    layer = TTOLayer(
        solver=GaussNewton(steps=6, pcg_iterations=100, pcg_tolerance=1e-12, damping=1e-3),
        backward=Implicit(pcg_iterations=1, pcg_tolerance=0.0),
        groups=("sh_dc",),
    )
    refined, info = layer(leaf, views, {"sh_dc": weights})
    g = torch.randn_like(refined.harmonics)
    to_start, to_weights = torch.autograd.grad((g * refined.harmonics).sum(), [harmonics, weights])
    moved = (refined.harmonics - harmonics).detach().flatten()
    v = -to_weights.flatten() / moved
    assert float(info.backward.relative_residual[0]) > 0.1, (
        "the solve must have been truncated for this to say anything"
    )
    torch.testing.assert_close(to_start.flatten(), g.flatten() - J.T @ (J @ v), rtol=1e-6, atol=1e-8)
    # Far from what a converged solve would give, and far from Λ ⊙ v.
    assert (to_start.flatten() - 0.01 * v).norm() > 0.1 * to_start.norm()


class TestWarnsWhereTheTheoremDoesNotHold:
    @pytest.fixture
    def far(self):
        """A solution that was given up far from stationarity."""
        scene, views = refinable_scene()
        coordinates = Coordinates(scene, views, ("sh_dc",))
        zero = torch.zeros(1, coordinates.num_unknowns, dtype=torch.float64)
        solution = minimize(GaussNewton(steps=1), Objective(coordinates, views, zero, zero + 0.1), zero)
        assert solution.accepted_steps.item() == 1
        return replace(solution, stationarity=torch.ones(1))

    def test_says_so(self, far):
        with pytest.warns(StationarityWarning, match="still 1 of its start"):
            Implicit().warn_if_not_stationary(far)

    def test_says_nothing_of_scenes_that_did_not_move(self, far):
        """They are given back, and have no such gradient."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", StationarityWarning)
            Implicit().warn_if_not_stationary(replace(far, accepted_steps=torch.zeros(1, dtype=torch.long)))

    def test_says_so_of_a_prediction_for_which_no_step_was_asked(self, far):
        asked_for_nothing = replace(far, accepted_steps=torch.zeros(1, dtype=torch.long), energy=torch.ones(1, 1))
        with pytest.warns(StationarityWarning):
            Implicit().warn_if_not_stationary(asked_for_nothing)
