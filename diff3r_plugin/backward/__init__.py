"""How gradients pass through the solution of the inner problem: one mode a file, each an object with its settings."""

from diff3r_plugin.backward.first_order import FirstOrder
from diff3r_plugin.backward.implicit import Implicit
from diff3r_plugin.backward.mode import BackwardMode, InnerProblem, Solved
from diff3r_plugin.backward.stepwise import Stepwise
from diff3r_plugin.backward.truncated import Truncated
from diff3r_plugin.backward.unroll import Unroll

__all__ = [
    "BackwardMode",
    "FirstOrder",
    "Implicit",
    "InnerProblem",
    "Solved",
    "Stepwise",
    "Truncated",
    "Unroll",
]
