"""Settings of the optimization layer, checked where they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from diff3r_plugin.groups import GROUPS
from diff3r_plugin.ranges import (
    PRECONDITIONERS,
    PreconditionerName,
    require_choice,
    require_group_names,
    require_positive,
    require_share,
    require_whole,
)

SolverName = Literal["gauss_newton", "adam"]
INNER_SOLVERS = get_args(SolverName)
BackwardModeName = Literal["implicit", "stepwise", "unroll", "truncated", "first_order"]
BACKWARD_MODES = get_args(BackwardModeName)
RENDERERS = ("gsplat", "native", "torch")
"""``render.NAME_backend`` each, the preferred one first."""
BACKENDS = ("auto", *RENDERERS)


@dataclass(frozen=True)
class TTOConfig:
    """How :class:`~diff3r_plugin.TTOLayer` optimizes and differentiates.

    Which values the paper uses is not public except for the backward system and its solution by PCG; every default
    here is our own (``docs/settings.md`` gives the reasons).

    Args:
        inner_solver: "gauss_newton" (Levenberg-Marquardt with PCG) or "adam" (first order, as in the paper).
        inner_steps: Steps of the inner solver, at least 0.
        backward_mode: "implicit" (the implicit function theorem), "stepwise" (the discrete adjoint of the Gauss-Newton
            steps, one linear solve each of ``inner_pcg_iterations`` products), "unroll", "truncated" (last
            ``truncated_steps`` steps) or "first_order" (the gradient at the solution, passed to the start as it is).
        truncated_steps: Steps that "truncated" differentiates, at least 1.
        pcg_iterations: Products with the Gauss-Newton matrix in the implicit backward, at least 1.
        pcg_tolerance: Relative residual at which PCG stops, forward and backward.
        inner_pcg_iterations: The same within a step of "gauss_newton"; None for ``pcg_iterations``.
        preconditioner: "jacobi", "block_jacobi" or "none".
        groups: What is optimized, some of :data:`diff3r_plugin.groups.GROUPS`: means, covariance, opacity, sh_dc,
            sh_rest, poses, exposure.
        backend: "auto", "gsplat", "native" or "torch".
        damping: First Levenberg-Marquardt damping, relative to the diagonal of the matrix, positive.
        learning_rates: Adam's step per group (missing groups take the default).
        stationarity_tolerance: A scene is done when ‖∇E(θ)‖ / ‖∇E(θ₀)‖ falls below this.
        largest_size: No Gaussian leaves larger than so many times its distance to the nearest camera, or than it came,
            positive; None: no bound.
        stationarity_warning: Warn when the implicit gradient is taken above this; None for never.

    Raises:
        ValueError: with the value, what was expected, and the setting's name.

    Example:
        >>> from diff3r_plugin import TTOConfig
        >>> TTOConfig(inner_steps=3).backward_mode
        'implicit'
    """

    inner_solver: SolverName = "gauss_newton"
    inner_steps: int = 4
    backward_mode: BackwardModeName = "implicit"
    truncated_steps: int = 1
    pcg_iterations: int = 8
    pcg_tolerance: float = 1e-2
    inner_pcg_iterations: int | None = 4
    preconditioner: PreconditionerName = "jacobi"
    groups: tuple[str, ...] = tuple(group.name for group in GROUPS.values() if group.optimized)
    backend: str = "auto"
    damping: float = 1.0
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    stationarity_tolerance: float = 1e-3
    largest_size: float | None = None
    stationarity_warning: float | None = 0.3

    def __post_init__(self) -> None:
        require_group_names("groups", self.groups, GROUPS)
        require_group_names("learning_rates", self.learning_rates, GROUPS)
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "learning_rates", dict(self.learning_rates))
        for name, choices in (
            ("inner_solver", INNER_SOLVERS),
            ("backward_mode", BACKWARD_MODES),
            ("preconditioner", PRECONDITIONERS),
            ("backend", BACKENDS),
        ):
            require_choice(name, getattr(self, name), choices)
        minima = {"inner_steps": 0, "truncated_steps": 1, "pcg_iterations": 1, "inner_pcg_iterations": 1}
        for name, smallest in minima.items():
            if name != "inner_pcg_iterations" or self.inner_pcg_iterations is not None:
                require_whole(name, getattr(self, name), smallest)
        for name in ("pcg_tolerance", "stationarity_tolerance"):
            require_share(name, getattr(self, name))
        require_positive("damping", self.damping)
        if self.backward_mode == "stepwise" and self.inner_solver != "gauss_newton":
            raise ValueError(
                f"backward_mode='stepwise' reverses Gauss-Newton steps; got inner_solver={self.inner_solver!r}. Use "
                "inner_solver='gauss_newton', or another backward_mode."
            )
        if not self.groups:
            raise ValueError(f"groups is empty; name at least one of {', '.join(GROUPS)}.")
        for group, rate in self.learning_rates.items():
            require_positive(f"learning_rates[{group!r}]", rate)
        for name in ("largest_size", "stationarity_warning"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))

    def learning_rate(self, group: str) -> float:
        """Adam's step for a group."""
        return self.learning_rates.get(group, GROUPS[group].rate)
