"""Gradients through every step of the inner solver: exact, at the price of their memory."""

from __future__ import annotations

from dataclasses import dataclass

from diff3r_plugin.backward.mode import InnerProblem, Solved
from diff3r_plugin.optimize import InnerSolver, minimize
from diff3r_plugin.render import resolve_backend


@dataclass(frozen=True)
class Unroll:
    """Differentiates all inner steps. Needs ``backend="torch"``, the one that can be differentiated twice."""

    def solve(self, problem: InnerProblem, solver: InnerSolver) -> Solved:
        """See :class:`~diff3r_plugin.backward.BackwardMode`."""
        require_twice_differentiable(problem, "unroll")
        solution = minimize(solver, problem.objective(), problem.theta0, differentiable_steps=solver.steps)
        return Solved(solution.theta, solution)


def require_twice_differentiable(problem: InnerProblem, mode: str) -> None:
    """Raise ValueError unless the problem's renderer can be differentiated twice."""
    if resolve_backend(problem.backend, problem.theta0.device) != "torch":
        raise ValueError(
            f"backward_mode={mode!r} differentiates the renderer twice, which only backend='torch' can; got "
            f"backend={problem.backend!r}. Use backend='torch' on small scenes, or backward_mode='stepwise' or "
            "'implicit'."
        )
