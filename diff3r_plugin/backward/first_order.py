"""The gradient at the solution handed to the start as it is: the cheap baseline, in the spirit of FOMAML."""

from __future__ import annotations

from dataclasses import dataclass

from diff3r_plugin.backward.mode import InnerProblem, Solved
from diff3r_plugin.optimize import InnerSolver, minimize


@dataclass(frozen=True)
class FirstOrder:
    """∂L/∂θ0 := ∂L/∂θ*. No linear solve, any renderer; proximal and pixel weights get no gradient."""

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """See :class:`~diff3r_plugin.backward.BackwardMode`."""
        detached = problem.detached()
        solution = minimize(solver, detached.objective(), detached.theta0)
        return Solved(solution.theta + problem.theta0 - detached.theta0, solution)
