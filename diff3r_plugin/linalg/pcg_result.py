"""What conjugate gradients return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jaxtyping import Float, Int
from torch import Tensor


class PCGReason(str, Enum):
    """Why the iteration of one system ended."""

    CONVERGED = "converged"
    MAX_ITERATIONS = "max_iterations"
    NON_POSITIVE_CURVATURE = "non_positive_curvature"
    NON_FINITE = "non_finite"

    def __str__(self) -> str:
        return self.value


REASONS = tuple(PCGReason)
"""In the order of their codes."""


@dataclass(frozen=True)
class PCGResult:
    """Solutions and what became of each system.

    Args:
        solution: ``[B, P]``.
        residual: ``b - A x``, ``[B, P]``, by the recurrence, corrected every ``stabilize_every`` iterations.
        iterations: Products with A that moved each system's solution, ``[B]``.
        relative_residual: ``‖residual‖ / ‖b‖``, ``[B]`` (0 where b is 0).
        reason_codes: Index into :class:`PCGReason`, ``[B]``; see :attr:`reasons`.
    """

    solution: Float[Tensor, "B P"]
    residual: Float[Tensor, "B P"]
    iterations: Int[Tensor, " B"]
    relative_residual: Float[Tensor, " B"]
    reason_codes: Int[Tensor, " B"]

    @property
    def reasons(self) -> tuple[PCGReason, ...]:
        """One :class:`PCGReason` a system (waits for the device)."""
        return tuple(REASONS[i] for i in self.reason_codes.tolist())
