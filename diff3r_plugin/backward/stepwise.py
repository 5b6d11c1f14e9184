"""Gradients through the Gauss-Newton steps that were made, in reverse, one linear solve a step.

A step solves A δ = −∇E(θ_k) with A = H_k + μ D and goes to θ_{k+1} = θ_k + δ. With D and μ held constant and the
Gauss-Newton matrix in place of the Hessian of E, its derivative needs nothing but products. From λ = ∂L/∂θ_K, for
each accepted step in reverse,

    A w = λ
    λ ← λ − H_k w
    ∂L/∂θ0 += Λ ⊙ w                      ∂L/∂images += W J w
    ∂L/∂Λ −= (θ_{k+1} − θ0) ⊙ w          ∂L/∂w −= (J w) · (r_k + J δ)

and at the end ∂L/∂θ0 += λ, for θ0 is where the steps start. Unlike the implicit function theorem this holds
wherever the steps ended, and a linear solve that is truncated leaves its share in λ: with no iteration at all it is
the first-order gradient. It equals ``unroll`` where the residual is linear in θ. Memory: three θ-vectors a step; the
scene is linearized again at each θ_k. Gradients to predicted cameras are taken at θ_K for all steps. Our own; the paper
uses the implicit gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diff3r_plugin.backward.mode import InnerProblem, Solved
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.finite import finite_rows
from diff3r_plugin.info import BackwardInfo, BackwardRecord
from diff3r_plugin.linalg import PCGResult, pcg
from diff3r_plugin.objective import Objective, ThetaGram
from diff3r_plugin.optimize import GaussNewton, InnerSolver, minimize
from diff3r_plugin.optimize.gauss_newton import GaussNewtonState
from diff3r_plugin.ranges import require_pcg


@dataclass(frozen=True)
class Stepwise:
    """Reverses the Gauss-Newton steps one by one. Any renderer; needs the solver :class:`GaussNewton`.

    Args:
        pcg_iterations: Products with the damped Gauss-Newton matrix for each step, at least 1.
        pcg_tolerance: Relative residual at which PCG stops, in [0, 1).
        preconditioner: "jacobi", "block_jacobi" or "none".

    Example:
        >>> from diff3r_plugin import Stepwise, TTOLayer
        >>> TTOLayer(backward=Stepwise()).backward.pcg_iterations
        4
    """

    pcg_iterations: int = TTOConfig.inner_pcg_iterations or TTOConfig.pcg_iterations
    pcg_tolerance: float = TTOConfig.pcg_tolerance
    preconditioner: str = "jacobi"

    def __post_init__(self) -> None:
        require_pcg(self.pcg_iterations, self.pcg_tolerance, self.preconditioner)

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """See :class:`~diff3r_plugin.backward.BackwardMode`."""
        if not isinstance(solver, GaussNewton):
            raise ValueError(
                f"backward_mode='stepwise' reverses Gauss-Newton steps; got the solver {type(solver).__name__}. Use "
                "inner_solver='gauss_newton', or another backward_mode."
            )
        detached = problem.detached()
        objective, trajectory = detached.objective(), Trajectory([])
        solution = minimize(solver, objective, detached.theta0, observe=trajectory.observe)
        record = BackwardRecord()
        theta = _SteppedSolution.apply(
            problem.theta0,
            problem.proximal_weights,
            problem.images_at(solution.theta),
            problem.pixel_weights,
            self,
            objective,
            trajectory.steps,
            record,
            solution.theta,
        )
        return Solved(theta, solution, record)


@dataclass(frozen=True)
class Step:
    """One step of the solver.

    Args:
        theta: θ_k, ``[B, P]``.
        end: θ_{k+1}, the same as θ_k where the step was not accepted.
        diagonal: D, the diagonal of H that the step was damped with, ``[B, P]``.
        damping: μ, ``[B]``.
        accepted: ``[B]``.
    """

    theta: Float[Tensor, "B P"]
    end: Float[Tensor, "B P"]
    diagonal: Float[Tensor, "B P"]
    damping: Float[Tensor, " B"]
    accepted: Bool[Tensor, " B"]


@dataclass(frozen=True)
class Trajectory:
    """The steps of a run, first to last."""

    steps: list[Step]

    def observe(self, before: GaussNewtonState, after: GaussNewtonState) -> None:
        """Keep the step between two states."""
        assert after.diagonal is not None  # it is None before the first step only
        accepted = after.accepted_steps > before.accepted_steps
        self.steps.append(
            Step(before.linearized.theta, after.linearized.theta, after.diagonal, before.damping, accepted)
        )


class _SteppedSolution(Function):
    """θ_K as a function of θ0, Λ, the images and the pixel weights."""

    @staticmethod
    def forward(
        ctx: Any,
        theta0: Tensor,
        proximal_weights: Tensor,
        images: Tensor,
        pixel_weights: Tensor,
        mode: Stepwise,
        objective: Objective,
        steps: list[Step],
        record: BackwardRecord,
        theta: Tensor,
    ) -> Tensor:
        ctx.mode, ctx.objective, ctx.steps, ctx.record = mode, objective, steps, record
        return theta.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        objective, mode = ctx.objective, ctx.mode
        _, wants_weights, wants_images, wants_pixels = ctx.needs_input_grad[:4]
        adjoint = cotangent
        to_theta0, to_weights = torch.zeros_like(cotangent), torch.zeros_like(cotangent)
        to_images = torch.zeros_like(objective.images) if wants_images else None
        to_pixels = torch.zeros_like(objective.pixel_weights) if wants_pixels else None
        solves: list[PCGResult] = []
        for step in reversed(ctx.steps):
            if not step.accepted.any():
                continue
            here = objective.linearize(step.theta)
            shift = step.damping[:, None] * step.diagonal
            damped = objective.proximal_weights + shift
            known = ThetaGram(step.diagonal - objective.proximal_weights, None)
            product, preconditioner = here.system(mode.preconditioner, damped, known)
            solve = pcg(
                product,
                torch.where(step.accepted[:, None], adjoint, 0),
                preconditioner=preconditioner,
                max_iterations=mode.pcg_iterations,
                tolerance=mode.pcg_tolerance,
            )
            solves.append(solve)
            # A scene whose solve broke passes its gradient on as it is, and does not reach the others.
            sound = step.accepted & finite_rows(solve.solution) & finite_rows(solve.residual)
            w = torch.where(sound[:, None], solve.solution, 0)
            # λ − H w, with H w known from the residual of A w = λ.
            adjoint = torch.where(sound[:, None], solve.residual + shift * w, adjoint)
            to_theta0 += objective.proximal_weights * w
            if wants_weights:
                to_weights -= (step.end - objective.theta0) * w
            if to_images is None and to_pixels is None:
                continue
            change = here.jvp(w)
            if to_images is not None:
                to_images += objective.pixel_weights[:, :, None] * change
            if to_pixels is not None:
                predicted = here.residual + here.jvp(step.end - step.theta)
                to_pixels -= (change * predicted).sum(2)
        if solves:
            ctx.record.info = BackwardInfo.over(solves)
        return to_theta0 + adjoint, to_weights if wants_weights else None, to_images, to_pixels, *[None] * 5
