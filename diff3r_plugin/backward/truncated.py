"""Gradients through the last steps of the inner solver only."""

from __future__ import annotations

from dataclasses import dataclass

from diff3r_plugin.backward.mode import InnerProblem, Solved
from diff3r_plugin.backward.unroll import require_twice_differentiable
from diff3r_plugin.optimize import InnerSolver, minimize
from diff3r_plugin.ranges import require_whole


@dataclass(frozen=True)
class Truncated:
    """Differentiates the last inner steps. Needs ``backend="torch"``, the one that can be differentiated twice.

    Args:
        steps: How many, at least 1; as many as the solver makes, or more, are :class:`Unroll`.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        require_whole("truncated_steps", self.steps, 1)

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """See :class:`~diff3r_plugin.backward.BackwardMode`."""
        require_twice_differentiable(problem, "truncated")
        steps = min(self.steps, solver.steps)
        # Where all steps are differentiated, so is where they start.
        start = problem.theta0 if steps == solver.steps else problem.theta0.detach()
        solution = minimize(solver, problem.objective(), start, differentiable_steps=steps)
        return Solved(solution.theta, solution)
