"""What the layer tells about each scene it optimized."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from jaxtyping import Bool, Float, Int
from torch import Tensor

from diff3r_plugin.linalg import PCGReason, PCGResult


class Outcome(str, Enum):
    """What became of a scene; all but ``REFINED`` return the initial Gaussians."""

    REFINED = "refined"
    INVALID_GAUSSIANS = "invalid_gaussians"
    """A Gaussian is not finite, or its covariance is not positive semidefinite."""
    INVALID_VIEWS = "invalid_views"
    """A camera or an image is not finite."""
    NOTHING_TO_GAIN = "nothing_to_gain"
    """The energy does not depend on the scene: all transparent, or nothing in view."""
    NO_DESCENT = "no_descent"
    """No step lowered the energy."""

    def __str__(self) -> str:
        return self.value


class StationarityWarning(UserWarning):
    """The implicit gradient is taken far from a stationary point and may be wrong, even in sign."""


@dataclass(eq=False)
class BackwardInfo:
    """The linear solve of the implicit backward.

    Args:
        iterations: Products with the Gauss-Newton matrix, ``[B]``.
        relative_residual: ``[B]``.
        reasons: Why the solve of each scene ended.
    """

    iterations: Int[Tensor, "B"]
    relative_residual: Float[Tensor, "B"]
    reasons: tuple[PCGReason, ...]

    @classmethod
    def of(cls, solve: PCGResult) -> BackwardInfo:
        return cls(solve.iterations, solve.relative_residual, solve.reasons)


@dataclass(eq=False)
class TTOInfo:
    """Statistics of one call of :class:`~diff3r_plugin.TTOLayer`, per scene; all but the cameras without a graph.

    Args:
        energy: Lowest energy so far after each inner step, ``[steps + 1, B]``; never rises.
        stationarity: ‖∇E(θ*)‖ / ‖∇E(θ0)‖, ``[B]``; the implicit gradient holds where this is small.
        accepted_steps: Inner steps that lowered the energy, ``[B]``.
        pcg_iterations: Products with the Gauss-Newton matrix over all inner steps, ``[B]``.
        pcg_relative_residual: Of the last inner linear solve, ``[B]``; NaN where there was none.
        pcg_reasons: Why the last inner linear solve of each scene ended; None where there was none.
        outcomes: What became of each scene.
        fell_back: Scenes that return their initial Gaussians, ``[B]``.
        world_to_camera: Refined cameras ``[B, V, 4, 4]`` where poses move, else None; with a graph to whatever the
            given cameras, the scenes and the weights depend on.
        seconds: Wall-clock time of the inner solve.
        backward: Filled by the implicit backward, when it runs.
    """

    energy: Float[Tensor, "S B"]
    stationarity: Float[Tensor, "B"]
    accepted_steps: Int[Tensor, "B"]
    pcg_iterations: Int[Tensor, "B"]
    pcg_relative_residual: Float[Tensor, "B"]
    pcg_reasons: tuple[PCGReason | None, ...]
    outcomes: tuple[Outcome, ...]
    fell_back: Bool[Tensor, "B"]
    world_to_camera: Float[Tensor, "B V 4 4"] | None
    seconds: float
    backward: BackwardInfo | None = field(default=None)
