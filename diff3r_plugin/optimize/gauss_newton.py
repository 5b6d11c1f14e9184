"""Gauss–Newton with Levenberg–Marquardt damping; each step's linear system goes to PCG."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.linalg import pcg
from diff3r_plugin.objective import LinearizedObjective, Objective, ThetaGram
from diff3r_plugin.optimize.minimize import SolverState

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-8, 1e8


@dataclass(frozen=True)
class GaussNewtonState(SolverState):
    """See :class:`SolverState`; ``damping`` is relative to the diagonal of H, ``[B]``, ``gram`` the last one made."""

    damping: Float[Tensor, "B"]
    growth: Float[Tensor, "B"]
    pcg_iterations: Int[Tensor, "B"]
    pcg_relative_residual: Float[Tensor, "B"]
    pcg_reason_codes: Int[Tensor, "B"]
    gram: ThetaGram | None


class GaussNewton:
    """Solve (H + μ diag H) δ = −∇E by PCG; accept θ + δ only if E falls; adapt μ to how well E was predicted.

    The change of μ is Nielsen's (1999): times max(1/3, 1 − (2ρ − 1)³) after a success with gain ratio ρ, times 2, 4,
    8, ... after failures. Without damping the method stalls when the proximal weights are small, because the rendering
    is not linear over the long steps that follow.

    Args:
        pcg_iterations: Products with H a step.
        pcg_tolerance: Relative residual at which PCG stops.
        preconditioner: "jacobi", "block_jacobi" or "none".
        damping: First μ.
    """

    def __init__(self, *, pcg_iterations: int, pcg_tolerance: float, preconditioner: str, damping: float) -> None:
        self._iterations, self._tolerance = pcg_iterations, pcg_tolerance
        self._preconditioner, self._damping = preconditioner, damping

    def start(self, linearized: LinearizedObjective) -> GaussNewtonState:
        energy = linearized.energy
        zeros = torch.zeros(energy.shape, dtype=torch.long, device=energy.device)
        return GaussNewtonState(
            linearized=linearized,
            best=linearized.theta,
            best_energy=energy,
            accepted_steps=zeros,
            damping=torch.full_like(energy, self._damping).detach(),
            growth=torch.full_like(energy, 2.0).detach(),
            pcg_iterations=zeros,
            pcg_relative_residual=torch.full_like(energy, float("nan")).detach(),
            pcg_reason_codes=zeros - 1,
            gram=None,
        )

    def step(self, objective: Objective, state: GaussNewtonState, active: Tensor) -> GaussNewtonState:
        here = state.linearized
        shift = state.damping[:, None] * here.diagonal
        # A finished scene asks for nothing: its right-hand side is zero, so PCG leaves it alone.
        rhs = torch.where(active[:, None], -here.gradient, 0)
        damped, room = objective.proximal_weights + shift, torch.empty_like(rhs)
        solve = pcg(
            lambda v: here.gauss_newton_product(v, damped, room),
            rhs,
            preconditioner=here.preconditioner(self._preconditioner, shift),
            max_iterations=self._iterations,
            tolerance=self._tolerance,
        )
        there = objective.linearize(here.theta + solve.solution)

        decrease = (here.energy - there.energy).detach()
        predicted = 0.5 * (solve.solution * (rhs + solve.residual)).sum(-1).detach()
        accepted = active & (decrease > 0) & there.energy.isfinite()
        ratio = torch.where(accepted, decrease / predicted.clamp_min(torch.finfo(predicted.dtype).tiny), 0)
        shrunk = state.damping * (1 - (2 * ratio.clamp(0, 1) - 1) ** 3).clamp_min(1 / 3)
        damping = torch.where(accepted, shrunk, torch.where(active, state.damping * state.growth, state.damping))
        growth = torch.where(accepted, 2.0, torch.where(active, 2 * state.growth, state.growth))

        if accepted.all():
            linearized = there
        elif not accepted.any():
            linearized = here
        else:
            linearized = objective.linearize(torch.where(accepted[:, None], there.theta, here.theta))
        return GaussNewtonState(
            linearized=linearized,
            best=linearized.theta,
            best_energy=torch.where(accepted, there.energy, here.energy),
            accepted_steps=state.accepted_steps + accepted,
            damping=damping.clamp(SMALLEST_DAMPING, LARGEST_DAMPING),
            growth=growth,
            pcg_iterations=state.pcg_iterations + solve.iterations,
            pcg_relative_residual=torch.where(active, solve.relative_residual, state.pcg_relative_residual),
            pcg_reason_codes=torch.where(active, solve.reason_codes, state.pcg_reason_codes),
            gram=here.gram,
        )
