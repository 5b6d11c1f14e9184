"""The loop around an inner solver's steps: statistics, early end, and which steps leave a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diff3r_plugin.objective import LinearizedObjective, Objective, ThetaGram


@dataclass(frozen=True)
class LinearSolves:
    """What a solver's linear systems took so far.

    Args:
        iterations: Products with H over all steps, ``[B]``.
        relative_residual: Of the last linear solve, ``[B]``; NaN when there was none.
        reason_codes: Index into ``PCGReason`` of the last linear solve, ``[B]``; -1 when there was none.
    """

    iterations: Int[Tensor, " B"]
    relative_residual: Float[Tensor, " B"]
    reason_codes: Int[Tensor, " B"]

    @classmethod
    def none(cls, energy: Float[Tensor, " B"]) -> LinearSolves:
        """Of a solver before its first linear system, or without any."""
        zeros = torch.zeros(energy.shape, dtype=torch.long, device=energy.device)
        return cls(zeros, torch.full_like(energy, float("nan")).detach(), zeros - 1)


@dataclass(frozen=True, kw_only=True)
class SolverState:
    """Where a solver stands; each solver adds its own memory.

    Args:
        linearized: E around the current iterate.
        best: Iterate of lowest energy so far, ``[B, P]``.
        best_energy: Its energy, ``[B]``.
        accepted_steps: Steps that lowered the energy, ``[B]``.
        solves: What its linear systems took.
        gram: The Gram matrices that it made last, near the iterate; None when it made none.
        done_at: Norm of the gradient at which a scene is done, ``[B]``; None where the loop alone looks at it.
        activity: Scenes that are not done yet, ``[B]``, and whether there are any, where the step had to wait for a GPU
            anyway; None where the loop has to ask.
    """

    linearized: LinearizedObjective
    best: Float[Tensor, "B P"]
    best_energy: Float[Tensor, " B"]
    accepted_steps: Int[Tensor, " B"]
    solves: LinearSolves
    gram: ThetaGram | None = None
    done_at: Float[Tensor, " B"] | None = None
    activity: tuple[Bool[Tensor, " B"], bool] | None = None


State = TypeVar("State", bound=SolverState)


class InnerSolver(Protocol[State]):
    """A solver owns its settings; it makes one step at a time, so that the loop decides which are differentiated."""

    @property
    def steps(self) -> int:
        """How many steps at most."""
        ...

    @property
    def stationarity_tolerance(self) -> float:
        """A scene is done when its gradient norm has fallen to this share of the first one."""
        ...

    def start(self, linearized: LinearizedObjective) -> State:
        """The state at θ0."""
        ...

    def step(self, objective: Objective, state: State, active: Bool[Tensor, " B"]) -> State:
        """One step for the scenes that are ``active`` ``[B]``; the others must not move."""
        ...


@dataclass(frozen=True)
class InnerSolution:
    """What an inner solver found.

    Args:
        theta: ``[B, P]``, of no higher energy than the start.
        linearized: E around theta, ready for the backward.
        energy: Lowest energy after each step, ``[steps + 1, B]``.
        stationarity: ‖∇E(θ*)‖ / ‖∇E(θ0)‖, ``[B]`` (0 where the start is stationary).
        stationary_start: ∇E(θ0) is no more than rounding, ``[B]``: there is nothing to gain.
        accepted_steps: ``[B]``.
        solves: What the solver's linear systems took.
        gram: The Gram matrices that the solver made last, near theta; None when it made none.
    """

    theta: Float[Tensor, "B P"]
    linearized: LinearizedObjective
    energy: Float[Tensor, "S B"]
    stationarity: Float[Tensor, " B"]
    stationary_start: Bool[Tensor, " B"]
    accepted_steps: Int[Tensor, " B"]
    solves: LinearSolves = field(repr=False)
    gram: ThetaGram | None = field(repr=False, default=None)


def unfinished(linearized: LinearizedObjective, done_at: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Scenes whose gradient has a norm above this, ``[B]``; not those where it is NaN."""
    return linearized.gradient.detach().norm(dim=-1) > done_at


def minimize(
    solver: InnerSolver[State],
    objective: Objective,
    theta0: Float[Tensor, "B P"],
    *,
    differentiable_steps: int = 0,
    observe: Callable[[State, State], None] | None = None,
) -> InnerSolution:
    """Run the solver's steps from ``theta0``.

    Args:
        solver: How.
        objective: E.
        theta0: Where from, ``[B, P]``.
        differentiable_steps: The last so many steps leave an autograd graph.
        observe: Is given the solver's states before and after each step.
    """
    steps = solver.steps
    graph_from = steps - differentiable_steps
    grad_enabled = torch.is_grad_enabled()

    def graph_at(step: int) -> bool:
        return grad_enabled and differentiable_steps > 0 and step >= graph_from

    with torch.set_grad_enabled(graph_at(0)):
        state = solver.start(objective.linearize(theta0))
    first_norm = state.linearized.gradient.detach().norm(dim=-1)
    rounding = torch.finfo(first_norm.dtype).eps * objective.scale
    done_at = torch.maximum(solver.stationarity_tolerance * first_norm, rounding)
    if differentiable_steps == 0:  # otherwise a step's gradient is made where the next one wants its graph
        state = replace(state, done_at=done_at)
    energies = [state.best_energy.detach()]
    for step in range(steps):
        active, any_active = state.activity or (unfinished(state.linearized, done_at), None)
        # A stationary start is rare, and nothing would move: not worth to make the host wait for a GPU.
        if (step > 0 or not active.is_cuda) and not (active.any() if any_active is None else any_active):
            break
        with torch.set_grad_enabled(graph_at(step)):
            before, state = state, solver.step(objective, state, active)
        if observe is not None:
            observe(before, state)
        energies.append(state.best_energy.detach())
    energies += [energies[-1]] * (steps + 1 - len(energies))

    linearized = state.linearized
    if state.best is not linearized.theta:
        with torch.no_grad():
            linearized = objective.linearize(state.best.detach())
    with torch.no_grad():
        norm = linearized.gradient.norm(dim=-1)
        moved = first_norm > rounding
        stationarity = torch.where(moved, norm / torch.where(moved, first_norm, 1), 0)
    return InnerSolution(
        theta=state.best,
        linearized=linearized,
        energy=torch.stack(energies),
        stationarity=stationarity,
        stationary_start=~moved,
        accepted_steps=state.accepted_steps,
        solves=state.solves,
        gram=state.gram,
    )
