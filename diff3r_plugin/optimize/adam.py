"""Adam on the inner energy: the first-order solver, with one learning rate a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.objective import LinearizedObjective, Objective
from diff3r_plugin.optimize.minimize import LinearSolves, SolverState
from diff3r_plugin.ranges import require_choice, require_positive, require_share, require_whole

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15


@dataclass(frozen=True, kw_only=True)
class AdamState(SolverState):
    """See :class:`SolverState`; step of each unknown, running means of the gradient and its square, step count."""

    learning_rates: Float[Tensor, " P"]
    first_moment: Float[Tensor, "B P"]
    second_moment: Float[Tensor, "B P"]
    count: int


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); the iterate of lowest energy is what counts, so E never ends above its start.

    Written out because ``torch.optim.Adam`` cannot be differentiated through, and steps all scenes at once here.

    Args:
        steps: How many, at least 0; a scene ends earlier when it is stationary.
        learning_rates: Step of each group in the dimensionless coordinates, positive; groups that are not named take
            those of their records in ``groups.GROUPS``.
        stationarity_tolerance: A scene is done when ‖∇E(θ)‖ / ‖∇E(θ₀)‖ falls below this, in [0, 1).

    Raises:
        ValueError: with the value, what was expected, and the setting's name.
    """

    steps: int = TTOConfig.inner_steps
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    stationarity_tolerance: float = TTOConfig.stationarity_tolerance

    def __post_init__(self) -> None:
        require_whole("inner_steps", self.steps, 0)
        require_share("stationarity_tolerance", self.stationarity_tolerance)
        for group, rate in self.learning_rates.items():
            require_choice("group in learning_rates", group, GROUPS)
            require_positive(f"learning_rates.{group}", rate)

    def start(self, linearized: LinearizedObjective) -> AdamState:
        zeros = torch.zeros_like(linearized.theta).detach()
        rates = {group.name: self.learning_rates.get(group.name, group.rate) for group in GROUPS.values()}
        shapes = linearized.objective.coordinates.shapes
        steps = [zeros.new_full((count * size,), rates[group]) for group, (count, size) in shapes.items()]
        return AdamState(
            linearized=linearized,
            best=linearized.theta,
            best_energy=linearized.energy,
            accepted_steps=torch.zeros(len(zeros), dtype=torch.long, device=zeros.device),
            solves=LinearSolves.none(linearized.energy),
            learning_rates=torch.cat(steps),
            first_moment=zeros,
            second_moment=zeros,
            count=0,
        )

    def step(self, objective: Objective, state: AdamState, active: Tensor) -> AdamState:
        here, count = state.linearized, state.count + 1
        gradient = here.gradient
        first = BETA1 * state.first_moment + (1 - BETA1) * gradient
        second = BETA2 * state.second_moment + (1 - BETA2) * gradient**2
        # The square root has no derivative at zero, which an unrolled first step meets at unseen Gaussians.
        root = torch.where(second > 0, torch.where(second > 0, second, 1).sqrt(), 0)
        change = (first / (1 - BETA1**count)) / (root / (1 - BETA2**count) ** 0.5 + EPSILON)
        theta = here.theta - torch.where(active[:, None], state.learning_rates * change, 0)
        there = objective.linearize(theta)
        better = active & (there.energy < state.best_energy)
        if better.all():
            best = there.theta
        else:
            best = torch.where(better[:, None], there.theta, state.best) if better.any() else state.best
        return AdamState(
            linearized=there,
            best=best,
            best_energy=torch.where(better, there.energy, state.best_energy),
            accepted_steps=state.accepted_steps + better,
            solves=state.solves,
            learning_rates=state.learning_rates,
            first_moment=first,
            second_moment=second,
            count=count,
        )
