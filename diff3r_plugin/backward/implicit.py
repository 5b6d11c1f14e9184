"""Gradients through the solution of the inner problem, by the implicit function theorem.

At a stationary point ∇E(θ*) = 0, with the Gauss-Newton matrix H = JᵀWJ + Λ and H v = ∂L/∂θ*:

    ∂L/∂θ0 = Λ ⊙ v        ∂L/∂Λ = −(θ* − θ0) ⊙ v        ∂L/∂images = W J v        ∂L/∂w = −(J v) · r

(Diff3R, arXiv 2604.01030, for θ0 and Λ; iMAML, arXiv 1909.04630, for the idea.) What is really returned for θ0 is
∂L/∂θ* − JᵀWJ v = Λ ⊙ v + (∂L/∂θ* − H v): the same where the linear solve has converged, and where it was truncated the
gradient of a descent that was truncated, too. With no iteration at all it is the first-order gradient. Without the
second term a short solve would tell the network that nothing it predicts matters.

With Λ = 0 the gradient to θ0 is exactly zero at a converged solve: the proximal term is the only path from θ0 to a
minimizer. The formulas hold near stationarity; how near a solution is stands in ``TTOInfo.stationarity``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diff3r_plugin.backward.mode import InnerProblem, Solved
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.finite import finite_rows
from diff3r_plugin.info import BackwardInfo, BackwardRecord, StationarityWarning
from diff3r_plugin.linalg import pcg
from diff3r_plugin.linalg.recycled import copied, kept
from diff3r_plugin.optimize import InnerSolution, InnerSolver, minimize
from diff3r_plugin.ranges import require_pcg


@dataclass(frozen=True)
class Implicit:
    """One linear solve at the solution, whatever the number of inner steps; the paper's mode.

    Args:
        pcg_iterations: Products with the Gauss-Newton matrix, at least 1.
        pcg_tolerance: Relative residual at which PCG stops, in [0, 1).
        preconditioner: "jacobi", "block_jacobi" or "none".
        stationarity_warning: Warn when the gradient is taken where ‖∇E‖ is above this share of its start; None: never.

    Example:
        >>> from diff3r_plugin import Implicit, TTOLayer
        >>> TTOLayer(backward=Implicit(pcg_iterations=16)).backward.pcg_iterations
        16
    """

    pcg_iterations: int = TTOConfig.pcg_iterations
    pcg_tolerance: float = TTOConfig.pcg_tolerance
    preconditioner: str = "jacobi"
    stationarity_warning: float | None = 0.3

    def __post_init__(self) -> None:
        require_pcg(self.pcg_iterations, self.pcg_tolerance, self.preconditioner)
        if self.stationarity_warning is not None and not self.stationarity_warning >= 0:
            raise ValueError(f"stationarity_warning={self.stationarity_warning!r} must not be negative; None: never.")

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """See :class:`~diff3r_plugin.backward.BackwardMode`."""
        detached = problem.detached()
        solution = minimize(solver, detached.objective(), detached.theta0)
        record = BackwardRecord()
        images = problem.images_at(solution.theta)
        theta = _ImplicitSolution.apply(
            problem.theta0, problem.proximal_weights, images, problem.pixel_weights, self, solution, record
        )
        return Solved(theta, solution, record)

    def warn_if_not_stationary(self, solution: InnerSolution) -> None:
        """Say so when the theorem is used far from where it holds. Scenes that did not move have no such gradient."""
        if self.stationarity_warning is None:
            return
        moved = (solution.accepted_steps > 0) | (solution.energy.shape[0] == 1)
        worst = torch.where(moved, solution.stationarity, 0).max().item()
        if worst > self.stationarity_warning:
            warnings.warn(
                f"The implicit gradient is taken where ‖∇E‖ is still {worst:.2g} of its start (limit "
                f"{self.stationarity_warning:g}): it may be wrong, even in sign. Raise inner_steps or "
                "inner_pcg_iterations, raise the proximal weights, use backward_mode='stepwise', or set "
                "stationarity_warning=None to accept it.",
                StationarityWarning,
                stacklevel=2,
            )


class _ImplicitSolution(Function):
    """θ* as a function of θ0, Λ, the images and the pixel weights."""

    @staticmethod
    def forward(
        ctx: Any,
        theta0: Tensor,
        proximal_weights: Tensor,
        images: Tensor,
        pixel_weights: Tensor,
        mode: Implicit,
        solution: InnerSolution,
        record: BackwardRecord,
    ) -> Tensor:
        ctx.mode, ctx.solution, ctx.record = mode, solution, record
        ctx.save_for_backward(theta0, proximal_weights)
        return copied(solution.theta.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        theta0, proximal_weights = ctx.saved_tensors
        mode, here = ctx.mode, ctx.solution.linearized
        product, preconditioner = here.system(mode.preconditioner, gram=ctx.solution.gram)
        solve = pcg(
            product,
            cotangent,
            preconditioner=preconditioner,
            max_iterations=mode.pcg_iterations,
            tolerance=mode.pcg_tolerance,
        )
        ctx.record.info = BackwardInfo.of(solve)
        mode.warn_if_not_stationary(ctx.solution)
        v = solve.solution
        # A broken scene must not reach the network that all scenes share.
        residual = kept(finite_rows(solve.residual), solve.residual)
        wants_theta0, wants_weights, wants_images, wants_pixels = ctx.needs_input_grad[:4]
        change = here.jvp(v) if wants_images or wants_pixels else None
        return (
            torch.addcmul(residual, proximal_weights, v) if wants_theta0 else None,
            (theta0 - here.theta).mul_(v) if wants_weights else None,
            here.objective.pixel_weights[:, :, None] * change if wants_images else None,
            -(change * here.residual).sum(2) if wants_pixels else None,
            None,
            None,
            None,
        )
