"""Gradients through the solution of the inner problem, by the theorem of implicit functions.

At a stationary point ∇E(θ*) = 0, with the Gauss-Newton matrix H = JᵀWJ + Λ and H v = ∂L/∂θ*:

    ∂L/∂θ0 = Λ ⊙ v        ∂L/∂Λ = −(θ* − θ0) ⊙ v        ∂L/∂images = W J v        ∂L/∂w = −(J v) · r

(Diff3R, arXiv 2604.01030, for θ0 and Λ; iMAML, arXiv 1909.04630, for the idea.) What is really returned for θ0 is
∂L/∂θ* − JᵀWJ v = Λ ⊙ v + (∂L/∂θ* − H v): the same where the linear solve has converged, and where it was cut short the
gradient of a descent that was cut short, too. With no iteration at all it is the first-order gradient. Without the
second term a short solve would tell the network that nothing it predicts matters.

With Λ = 0 the gradient to θ0 is exactly zero at a converged solve: the proximal term is the only path from θ0 to a
minimizer. The formulas hold near stationarity; how near a solution is stands in ``TTOInfo.stationarity``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diff3r_plugin.linalg import PCGResult, pcg
from diff3r_plugin.optimize import InnerSolution


def implicit_solution(
    theta0: Float[Tensor, "B P"],
    proximal_weights: Float[Tensor, "B P"],
    images: Float[Tensor, "B V 3 H W"],
    pixel_weights: Float[Tensor, "B V H W"],
    solution: InnerSolution,
    *,
    pcg_iterations: int,
    pcg_tolerance: float,
    preconditioner: str,
    on_backward: Callable[[PCGResult], None],
) -> Float[Tensor, "B P"]:
    """θ* as a differentiable function of θ0, Λ, the images and the pixel weights.

    Args:
        theta0, proximal_weights, images, pixel_weights: The inputs that gradients may reach.
        solution: What the inner solver found for them.
        pcg_iterations, pcg_tolerance, preconditioner: For the linear solve of the backward.
        on_backward: Receives the statistics of that solve.
    """
    settings = {"max_iterations": pcg_iterations, "tolerance": pcg_tolerance}
    return _ImplicitSolution.apply(
        theta0, proximal_weights, images, pixel_weights, solution, preconditioner, settings, on_backward
    )


class _ImplicitSolution(Function):
    @staticmethod
    def forward(ctx, theta0, proximal_weights, images, pixel_weights, solution, preconditioner, settings, on_backward):
        ctx.linearized, ctx.gram = solution.linearized, solution.gram
        ctx.preconditioner, ctx.settings, ctx.on_backward = preconditioner, settings, on_backward
        ctx.save_for_backward(theta0, proximal_weights)
        return solution.theta.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        theta0, proximal_weights = ctx.saved_tensors
        here = ctx.linearized
        room = torch.empty_like(cotangent)
        solve = pcg(
            lambda v: here.gauss_newton_product(v, out=room),
            cotangent,
            preconditioner=here.preconditioner(ctx.preconditioner, gram=ctx.gram),
            **ctx.settings,
        )
        ctx.on_backward(solve)
        v = solve.solution
        # A broken scene must not reach the network that all scenes share.
        residual = torch.where(solve.residual.isfinite().all(-1, keepdim=True), solve.residual, 0)
        wants_theta0, wants_weights, wants_images, wants_pixels = ctx.needs_input_grad[:4]
        pushed = here.push(v) if wants_images or wants_pixels else None
        return (
            proximal_weights * v + residual if wants_theta0 else None,
            -(here.theta - theta0) * v if wants_weights else None,
            here.objective.pixel_weights[:, :, None] * pushed if wants_images else None,
            -(pushed * here.residual).sum(2) if wants_pixels else None,
            None,
            None,
            None,
            None,
        )
