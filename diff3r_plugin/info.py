"""What the layer tells about each scene it optimized."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diff3r_plugin.groups.exposure import Exposure
from diff3r_plugin.linalg import PCGReason, PCGResult
from diff3r_plugin.views import Views


class Outcome(str, Enum):
    """What became of a scene; all but ``REFINED`` return the initial Gaussians."""

    REFINED = "refined"
    INVALID_GAUSSIANS = "invalid_gaussians"
    """A Gaussian is not finite, or its covariance is not positive semidefinite or overflows (float32: from 1e34)."""
    INVALID_VIEWS = "invalid_views"
    """A camera or an image is not finite."""
    NOTHING_TO_GAIN = "nothing_to_gain"
    """The prediction is stationary already: it matches the images, or nothing of it is in view."""
    NO_DESCENT = "no_descent"
    """No step lowered the energy, or it is too large for its type of numbers."""
    SOLVE_FAILED = "solve_failed"
    """No step was found: conjugate gradients met non-positive curvature or a number that is not finite."""

    def __str__(self) -> str:
        return self.value

    @property
    def fell_back(self) -> bool:
        """Whether something was wrong, so that the scene kept its initial Gaussians."""
        return self not in (Outcome.REFINED, Outcome.NOTHING_TO_GAIN)

    @property
    def meaning(self) -> str:
        """In words."""
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.REFINED: "a step lowered the energy",
    Outcome.INVALID_GAUSSIANS: "a Gaussian is not finite, or its covariance is not positive semidefinite or overflows",
    Outcome.INVALID_VIEWS: "a camera or an image is not finite",
    Outcome.NOTHING_TO_GAIN: "it matches the images already, or nothing of it is in view",
    Outcome.NO_DESCENT: "no step lowered the energy, or it overflows",
    Outcome.SOLVE_FAILED: "no linear solve gave a step (info.pcg_reasons): look for Gaussians of enormous size, or "
    "compute in float64",
}


class StationarityWarning(UserWarning):
    """The implicit gradient is taken far from a stationary point and may be wrong, even in sign."""


class FallbackWarning(UserWarning):
    """Something is wrong with a scene, which therefore kept its initial Gaussians."""


def warn_of_fallbacks(outcomes: Sequence[Outcome]) -> None:
    """Warn once of all scenes of a call that kept their initial Gaussians because something was wrong."""
    fallen = [(index, outcome) for index, outcome in enumerate(outcomes) if outcome.fell_back]
    if not fallen:
        return
    listed = ", ".join(f"scene {index} ({outcome}: {outcome.meaning})" for index, outcome in fallen[:3])
    more = f" and {len(fallen) - 3} more" if len(fallen) > 3 else ""
    warnings.warn(
        f"{len(fallen)} of {len(outcomes)} scenes kept their initial Gaussians: {listed}{more}. Look at info.outcomes.",
        FallbackWarning,
        stacklevel=5,  # the line that calls the layer
    )


@dataclass(eq=False)
class BackwardInfo:
    """The linear solve of the implicit backward.

    Args:
        iterations: Products with the Gauss-Newton matrix, ``[B]``.
        relative_residual: ``[B]``.
        reasons: Why the solve of each scene ended.
    """

    iterations: Int[Tensor, " B"]
    relative_residual: Float[Tensor, " B"]
    reasons: tuple[PCGReason, ...]

    @classmethod
    def of(cls, solve: PCGResult) -> BackwardInfo:
        """Of one solve."""
        return cls(solve.iterations, solve.relative_residual, solve.reasons)

    @classmethod
    def over(cls, solves: Sequence[PCGResult]) -> BackwardInfo:
        """Of several solves in a row: all products, the largest residual, and why the last one ended."""
        return cls(
            torch.stack([solve.iterations for solve in solves]).sum(0),
            torch.stack([solve.relative_residual for solve in solves]).amax(0),
            solves[-1].reasons,
        )


@dataclass
class BackwardRecord:
    """Where the backward leaves its statistics.

    Args:
        info: None until the backward has run, and where it solves no linear system.
    """

    info: BackwardInfo | None = None


@dataclass(frozen=True, eq=False)
class TTOInfo:
    """Statistics of one call of :class:`~diff3r_plugin.TTOLayer`, per scene; all but the views without a graph.

    Args:
        energy: Lowest energy so far after each inner step, ``[steps + 1, B]``; never rises.
        stationarity: ‖∇E(θ*)‖ / ‖∇E(θ0)‖, ``[B]``; the implicit gradient holds where this is small.
        accepted_steps: Inner steps that lowered the energy, ``[B]``.
        pcg_iterations: Products with the Gauss-Newton matrix over all inner steps, ``[B]``.
        pcg_relative_residual: Of the last inner linear solve, ``[B]``; NaN where there was none.
        pcg_reasons: Why the last inner linear solve of each scene ended; None where there was none.
        outcomes: What became of each scene.
        views: The context views that belong to the refined scene: those that were given, with refined cameras where
            poses move. These have a graph to whatever the given cameras, the scenes and the weights depend on.
        exposure: What each view's camera does to colors, where exposures are among the unknowns; without a graph.
        seconds: Wall-clock time of the inner solve.
        record: Where the backward leaves its statistics; see :attr:`backward`.
    """

    energy: Float[Tensor, "S B"]
    stationarity: Float[Tensor, " B"]
    accepted_steps: Int[Tensor, " B"]
    pcg_iterations: Int[Tensor, " B"]
    pcg_relative_residual: Float[Tensor, " B"]
    pcg_reasons: tuple[PCGReason | None, ...]
    outcomes: tuple[Outcome, ...]
    views: Views
    exposure: Exposure | None
    seconds: float
    record: BackwardRecord

    @property
    def backward(self) -> BackwardInfo | None:
        """The linear solve of the backward, once it has run; None before, and where the mode has none."""
        return self.record.info

    @property
    def fell_back(self) -> Bool[Tensor, " B"]:
        """Scenes that kept their initial Gaussians because something was wrong (see :attr:`Outcome.fell_back`)."""
        return torch.tensor([outcome.fell_back for outcome in self.outcomes], dtype=torch.bool)
