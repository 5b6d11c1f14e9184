"""Linear algebra without matrices: conjugate gradients and the preconditioners they use."""

from diff3r_plugin.linalg.pcg import pcg
from diff3r_plugin.linalg.pcg_result import PCGReason, PCGResult
from diff3r_plugin.linalg.preconditioners import BlockJacobi, Jacobi

__all__ = ["BlockJacobi", "Jacobi", "PCGReason", "PCGResult", "pcg"]
