"""Adam on the inner energy: the first-order solver, with one learning rate a group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.objective import LinearizedObjective, Objective
from diff3r_plugin.optimize.minimize import SolverState

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15


@dataclass(frozen=True)
class AdamState(SolverState):
    """See :class:`SolverState`; running means of the gradient and its square, ``[B, P]``, and the step count."""

    first_moment: Float[Tensor, "B P"]
    second_moment: Float[Tensor, "B P"]
    count: int


class Adam:
    """Adam (Kingma and Ba 2015); the iterate of lowest energy is what counts, so E never ends above its start.

    Written out because ``torch.optim.Adam`` cannot be differentiated through, and steps all scenes at once here.

    Args:
        learning_rates: Step of each unknown, broadcastable to ``[B, P]``, in the dimensionless coordinates.
    """

    def __init__(self, learning_rates: Float[Tensor, "P"]) -> None:
        self._learning_rates = learning_rates

    def start(self, linearized: LinearizedObjective) -> AdamState:
        zeros = torch.zeros_like(linearized.theta).detach()
        return AdamState(
            linearized=linearized,
            best=linearized.theta,
            best_energy=linearized.energy,
            accepted_steps=torch.zeros(len(zeros), dtype=torch.long, device=zeros.device),
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
        theta = here.theta - torch.where(active[:, None], self._learning_rates * change, 0)
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
            first_moment=first,
            second_moment=second,
            count=count,
        )
