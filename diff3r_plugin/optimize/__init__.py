"""Inner solvers: from θ0 to a θ* of lower energy, never higher."""

from diff3r_plugin.optimize.adam import Adam
from diff3r_plugin.optimize.customary import CustomaryTTO
from diff3r_plugin.optimize.gauss_newton import GaussNewton
from diff3r_plugin.optimize.minimize import InnerSolution, InnerSolver, minimize

__all__ = ["Adam", "CustomaryTTO", "GaussNewton", "InnerSolution", "InnerSolver", "minimize"]
