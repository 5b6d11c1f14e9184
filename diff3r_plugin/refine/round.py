"""One round: Gauss–Newton steps of one scene on some of its views, from where the last round left both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import Outcome
from diff3r_plugin.linalg import PCGReason
from diff3r_plugin.objective import Objective
from diff3r_plugin.optimize import GaussNewton, InnerSolution, minimize
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class RoundResult:
    """What a round left.

    Args:
        scene: Of no higher energy on the round's views than the one before.
        energy_before: On those views, at the start.
        energy_after: At the end.
        accepted_steps: Steps that lowered it.
        outcome: What became of the scene.
        missed: Absolute residual times what each Gaussian shows there, summed over the round's pixels, ``[N]``; zeros
            where colors do not move.
    """

    scene: Gaussians
    energy_before: float
    energy_after: float
    accepted_steps: int
    outcome: Outcome
    missed: Float[Tensor, " N"]


def run_round(
    scene: Gaussians,
    views: Views,
    weights: ProximalWeights,
    config: TTOConfig,
    *,
    pixel_weights: Float[Tensor, "1 V H W"] | None = None,
    robust: float | None = None,
) -> RoundResult:
    """Refine one scene on some views, judged by what a screen shows: a rendering brighter than one counts as one.

    Args:
        scene: One scene.
        views: With images.
        weights: Hold the scene near where it is.
        config: Groups, steps and damping of Gauss–Newton; its backward mode is not used.
        pixel_weights: Of each pixel; one by default.
        robust: Residual (images in [0, 1]) from which pixels count less: by (1 + (r / robust)²)⁻², the weight of Geman
            and McClure at the residual that the round begins with. None: all count alike.
    """
    with torch.no_grad():
        coordinates = Coordinates(scene, views, config.groups)
        unusable = _unusable(coordinates, views)
        if unusable is not None:
            return RoundResult(scene, float("nan"), float("nan"), 0, unusable, torch.zeros_like(scene.opacities[0]))
        start = torch.zeros(1, coordinates.num_unknowns, dtype=scene.dtype, device=scene.device)
        held = weights.flatten(coordinates, start)
        objective = Objective(coordinates, views, start, held, pixel_weights, config.backend, displayed=True)
        if robust is not None:
            residual = objective.linearize(start).residual.square().mean(2)
            trusted = objective.pixel_weights * (1 + residual / robust**2) ** -2
            objective = Objective(coordinates, views, start, held, trusted, config.backend, displayed=True)
        solution = minimize(_solver(config), objective, start)
        steps = int(solution.accepted_steps[0])
        return RoundResult(
            coordinates.apply(solution.theta, scene) if steps else scene,
            float(solution.energy[0, 0]),
            float(solution.energy[-1, 0]),
            steps,
            _outcome(steps, solution),
            _missed(objective, solution),
        )


def _missed(objective: Objective, solution: InnerSolution) -> Float[Tensor, " N"]:
    """Jᵀ of the absolute residual, by the constant colors: Σ |r| · transmittance · alpha, up to a factor."""
    coordinates = objective.coordinates
    if "sh_dc" not in coordinates.shapes:
        return torch.zeros_like(coordinates.reference.opacities[0])
    pulled = solution.linearized.vjp(objective.pixel_weights[:, :, None] * solution.linearized.residual.abs())
    return coordinates.split(pulled)["sh_dc"][0].sum(-1)


def _unusable(coordinates: Coordinates, views: Views) -> Outcome | None:
    if not coordinates.valid.all():
        return Outcome.INVALID_GAUSSIANS
    tensors = (views.given_images, views.world_to_camera, views.intrinsics)
    return None if all(tensor.isfinite().all() for tensor in tensors) else Outcome.INVALID_VIEWS


def _outcome(steps: int, solution: InnerSolution) -> Outcome:
    if steps:
        return Outcome.REFINED
    if not solution.energy[0].isfinite().all():
        return Outcome.NO_DESCENT
    if solution.stationary_start.all():
        return Outcome.NOTHING_TO_GAIN
    code = int(solution.solves.reason_codes[0])
    broken = code >= 0 and tuple(PCGReason)[code] in (PCGReason.NON_POSITIVE_CURVATURE, PCGReason.NON_FINITE)
    return Outcome.SOLVE_FAILED if broken else Outcome.NO_DESCENT


def _solver(config: TTOConfig) -> GaussNewton:
    return GaussNewton(
        steps=config.inner_steps,
        pcg_iterations=config.inner_pcg_iterations or config.pcg_iterations,
        pcg_tolerance=config.pcg_tolerance,
        preconditioner=config.preconditioner,
        damping=config.damping,
        stationarity_tolerance=config.stationarity_tolerance,
    )
