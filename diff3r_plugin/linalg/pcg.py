"""Preconditioned conjugate gradients for a batch of independent symmetric positive definite systems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.linalg import device_pcg
from diff3r_plugin.linalg.pcg_result import REASONS, PCGReason, PCGResult
from diff3r_plugin.linalg.vector_updates import VectorUpdates, updates_for

MAX_DRIFT = 0.1
"""The recurrence's residual is replaced by the true one when they differ by more than this share."""


def pcg(
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, "B P"],
    *,
    x0: Float[Tensor, "B P"] | None = None,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    max_iterations: int = 8,
    tolerance: float = 1e-2,
    stabilize_every: int = 10,
) -> PCGResult:
    """Solve ``A x = b`` for B symmetric positive definite systems at once, each with its own step sizes.

    Differences from ``scipy.sparse.linalg.cg``: (1) a batch of systems shares each product with A, while alpha, beta
    and convergence are per system, and a finished system no longer moves; (2) the tolerance is relative to ``‖b‖``
    only; (3) every ``stabilize_every`` iterations the residual is recomputed from its definition, and
    replaced if the recurrence has drifted from it by more than a tenth; (4) non-positive
    curvature ``pᵀAp <= 0`` and non-finite numbers end a system at its last good iterate instead of corrupting it;
    (5) statistics are returned, never printed; (6) the result can be differentiated through (the iterations, not
    the implicit function theorem).

    Args:
        matvec: ``v [B, P] -> A v [B, P]``, linear, symmetric and positive definite for each system.
        b: Right-hand sides, ``[B, P]``.
        x0: Starting point; zero by default.
        preconditioner: ``r [B, P] -> M⁻¹ r``, symmetric positive definite; the identity by default.
        max_iterations: At most this many products with A (those of ``stabilize_every`` not counted).
        tolerance: A system is done when ``‖b - A x‖ <= tolerance * ‖b‖``.
        stabilize_every: Iterations between recomputations of the true residual; 0 for never.

    Raises:
        ValueError: if ``b`` is not ``[B, P]``, or a setting is out of range.

    Source: Hestenes and Stiefel 1952; stabilisation as in lineax.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg import pcg
        >>> A = torch.tensor([[[4.0, 1.0], [1.0, 3.0]]])
        >>> result = pcg(lambda v: (A @ v[..., None])[..., 0], torch.tensor([[1.0, 2.0]]), tolerance=1e-6)
        >>> result.solution, result.reasons
        (tensor([[0.0909, 0.6364]]), (<PCGReason.CONVERGED: 'converged'>,))
    """
    if b.ndim != 2:
        raise ValueError(f"b must have shape [B, P] (systems, unknowns), got {list(b.shape)}; reshape it.")
    if max_iterations < 0 or tolerance < 0:
        raise ValueError(f"max_iterations and tolerance must not be negative, got {max_iterations} and {tolerance}.")
    settings = (max_iterations, tolerance, stabilize_every)
    launch = device_pcg.launcher_for(b, preconditioner)
    if launch is not None:
        return device_pcg.solve(launch, matvec, b, x0, preconditioner, *settings)  # type: ignore[arg-type]
    return solve(matvec, b, x0, updates_for(b, preconditioner), *settings)


def solve(
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, "B P"],
    x0: Float[Tensor, "B P"] | None,
    updates: VectorUpdates,
    max_iterations: int,
    tolerance: float,
    stabilize_every: int,
) -> PCGResult:
    """:func:`pcg` with a given way to do its vector work."""
    norm_b = updates.dot(b, b).sqrt()
    target = tolerance * norm_b

    now = updates.measure(b if x0 is None else b - matvec(x0))
    x, p = updates.start(now, x0)
    r, rz, squared = now.r, now.rz, now.squared
    finite = squared.isfinite() & rz.isfinite()
    converged = squared.sqrt() <= target
    reason = torch.full(b.shape[:1], REASONS.index(PCGReason.MAX_ITERATIONS), device=b.device)
    reason = reason.masked_fill(converged, REASONS.index(PCGReason.CONVERGED))
    reason = reason.masked_fill(~finite, REASONS.index(PCGReason.NON_FINITE))
    active = finite & ~converged
    iterations = torch.zeros_like(reason)

    for k in range(1, max_iterations + 1):
        # Asking would make the host wait for a GPU; finished systems do not move.
        if b.device.type == "cpu" and not active.any():
            break
        Ap = matvec(p)
        curvature = updates.dot(p, Ap)
        usable = (curvature > 0) & curvature.isfinite()
        reason = torch.where(
            active & ~usable,
            torch.where(
                curvature.isfinite(),
                REASONS.index(PCGReason.NON_POSITIVE_CURVATURE),
                REASONS.index(PCGReason.NON_FINITE),
            ),
            reason,
        )
        moving = active & usable
        alpha = torch.where(moving, rz / torch.where(moving, curvature, 1), 0)
        new = updates.advance(r, Ap, alpha)
        if stabilize_every and k % stabilize_every == 0:
            true = b - matvec(torch.where(moving[:, None], torch.addcmul(x, alpha[:, None], p), x))
            drift = true - new.r
            # Replacing a residual that is still right would only corrupt the directions' conjugacy.
            drifted = moving & (updates.dot(drift, drift) > MAX_DRIFT**2 * updates.dot(true, true))
            new = updates.measure(torch.where(drifted[:, None], true, new.r))
        good = moving & new.rz.isfinite() & new.squared.isfinite()
        new = updates.restore(good, new, r)
        reason = torch.where(moving & ~good, REASONS.index(PCGReason.NON_FINITE), reason)
        iterations = iterations + good
        squared = torch.where(good, new.squared, squared)
        done = good & (squared.sqrt() <= target)
        reason = torch.where(done, REASONS.index(PCGReason.CONVERGED), reason)
        active = good & ~done
        taken, r = torch.where(good, alpha, 0), new.r
        if k == max_iterations:
            x = updates.step(x, p, taken)
            break
        beta = torch.where(active, new.rz / torch.where(active, rz, 1), 0)
        x, p = updates.follow(x, p, new, taken, beta)
        rz = torch.where(active, new.rz, rz)

    relative = torch.where(norm_b > 0, squared.sqrt() / torch.where(norm_b > 0, norm_b, 1), 0)
    return PCGResult(x, r, iterations, relative.detach(), reason)
