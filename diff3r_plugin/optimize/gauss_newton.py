"""Gauss–Newton with Levenberg–Marquardt damping; each step's linear system goes to PCG."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.linalg import pcg
from diff3r_plugin.linalg.recycled import added, kept
from diff3r_plugin.linalg.vector_updates import updates_for
from diff3r_plugin.objective import LinearizedObjective, Objective
from diff3r_plugin.optimize.minimize import LinearSolves, SolverState, unfinished
from diff3r_plugin.ranges import require_pcg, require_positive, require_share, require_whole

SMALLEST_DAMPING, LARGEST_DAMPING = 1e-8, 1e8

GRAM_STEPS = 8
"""Steps that use the same Gram matrices: they only shape damping and preconditioner, and cost about two products."""


@dataclass(frozen=True, kw_only=True)
class GaussNewtonState(SolverState):
    """See :class:`SolverState`.

    Args:
        damping: μ of the next step, relative to the diagonal of H, ``[B]``.
        growth: Factor of μ at the next failure, ``[B]``.
        diagonal: The diagonal of H that the last step was damped with, ``[B, P]``; None before the first.
        gram_age: Steps that have used ``gram``; it is reused for GRAM_STEPS steps.
    """

    damping: Float[Tensor, " B"]
    growth: Float[Tensor, " B"]
    diagonal: Float[Tensor, "B P"] | None
    gram_age: int


@dataclass(frozen=True)
class GaussNewton:
    """Solve (H + μ diag H) δ = −∇E by PCG; accept θ + δ only if E falls; adapt μ to how well E was predicted.

    The change of μ is Nielsen's (1999): times max(1/3, 1 − (2ρ − 1)³) after a success with gain ratio ρ, times 2, 4,
    8, ... after failures. Without damping the method stalls when the proximal weights are small, because the rendering
    is not linear over the long steps that follow.

    Args:
        steps: How many, at least 0; a scene ends earlier when it is stationary.
        pcg_iterations: Products with H a step, at least 1.
        pcg_tolerance: Relative residual at which PCG stops, in [0, 1).
        preconditioner: "jacobi", "block_jacobi" or "none".
        damping: First μ, positive.
        stationarity_tolerance: A scene is done when ‖∇E(θ)‖ / ‖∇E(θ₀)‖ falls below this, in [0, 1).

    Raises:
        ValueError: with the value, what was expected, and the setting's name.

    Example:
        >>> from diff3r_plugin import GaussNewton, TTOLayer
        >>> TTOLayer(solver=GaussNewton(steps=6)).solver.damping
        1.0
    """

    steps: int = TTOConfig.inner_steps
    pcg_iterations: int = TTOConfig.inner_pcg_iterations or TTOConfig.pcg_iterations
    pcg_tolerance: float = TTOConfig.pcg_tolerance
    preconditioner: str = TTOConfig.preconditioner
    damping: float = TTOConfig.damping
    stationarity_tolerance: float = TTOConfig.stationarity_tolerance

    def __post_init__(self) -> None:
        require_whole("inner_steps", self.steps, 0)
        require_pcg(self.pcg_iterations, self.pcg_tolerance, self.preconditioner, "inner_pcg_iterations")
        require_positive("damping", self.damping)
        require_share("stationarity_tolerance", self.stationarity_tolerance)

    def start(self, linearized: LinearizedObjective) -> GaussNewtonState:
        energy = linearized.energy
        solves = LinearSolves.none(energy)
        return GaussNewtonState(
            linearized=linearized,
            best=linearized.theta,
            best_energy=energy,
            accepted_steps=torch.zeros_like(solves.iterations),
            solves=solves,
            damping=torch.full_like(energy, self.damping).detach(),
            growth=torch.full_like(energy, 2.0).detach(),
            diagonal=None,
            gram_age=0,
        )

    def step(self, objective: Objective, state: GaussNewtonState, active: Tensor) -> GaussNewtonState:
        here = state.linearized
        gram, age, diagonal = state.gram, state.gram_age, state.diagonal
        if gram is None or diagonal is None or age >= GRAM_STEPS:
            gram, age = here.gram_for(self.preconditioner), 0
            diagonal = added(gram.diagonal, objective.proximal_weights.detach())
        # A finished scene asks for nothing: its right-hand side is zero, so PCG leaves it alone.
        rhs = kept(active, here.gradient).neg_()
        damped = added(objective.proximal_weights, diagonal, state.damping[:, None])
        product, preconditioner = here.system(self.preconditioner, damped, gram)
        solve = pcg(
            product,
            rhs,
            preconditioner=preconditioner,
            max_iterations=self.pcg_iterations,
            tolerance=self.pcg_tolerance,
        )
        there = objective.linearize(added(here.theta, solve.solution))

        decrease = (here.energy - there.energy).detach()
        # Of the damped model, δ · b − ½ δ · A δ: what conjugate gradients leave of b is orthogonal to their δ.
        predicted = 0.5 * updates_for(rhs.detach(), None).dot(solve.solution.detach(), rhs.detach())
        accepted = active & (decrease > 0)  # false where the energy is not finite
        ratio = torch.where(accepted, decrease / predicted.clamp_min(torch.finfo(predicted.dtype).tiny), 0)
        shrunk = state.damping * (1 - (2 * ratio.clamp(0, 1) - 1) ** 3).clamp_min(1 / 3)
        damping = torch.where(accepted, shrunk, torch.where(active, state.damping * state.growth, state.damping))
        growth = torch.where(accepted, 2.0, torch.where(active, 2 * state.growth, state.growth))

        successes, activity = _counted(accepted, there, state.done_at)
        if successes == len(accepted):
            linearized = there
        elif successes == 0:
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
            diagonal=diagonal,
            solves=LinearSolves(
                iterations=state.solves.iterations + solve.iterations,
                relative_residual=torch.where(active, solve.relative_residual, state.solves.relative_residual),
                reason_codes=torch.where(active, solve.reason_codes, state.solves.reason_codes),
            ),
            gram=gram,
            gram_age=age + 1,
            done_at=state.done_at,
            activity=activity if linearized is there else None,
        )


def _counted(
    accepted: Bool[Tensor, " B"], there: LinearizedObjective, done_at: Float[Tensor, " B"] | None
) -> tuple[int, tuple[Bool[Tensor, " B"], bool] | None]:
    """How many scenes go there; and which are not done then, where a GPU is waited for: one transfer for both.

    A step that lowers the energy nowhere is rare, and costs the gradient there.
    """
    if done_at is None or not accepted.is_cuda:
        return int(accepted.sum()), None
    active = unfinished(there, done_at)
    successes, going = torch.stack([accepted, active]).sum(1).tolist()
    return successes, (active, going > 0)
