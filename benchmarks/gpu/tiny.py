"""Every kernel once on a tiny scene, for tools that slow programs down: ``python -m benchmarks.gpu.tiny``."""

from __future__ import annotations

from benchmarks.gpu.subject import Subject, tested_on
from benchmarks.gpu.timing import synchronize
from benchmarks.gpu.workloads import Size, Workload
from diff3r_plugin.linalg import pcg


def run(tested: Subject) -> None:
    """Rendering, all products, those in θ, the Gram matrices, and three iterations of conjugate gradients."""
    work = Workload(Size(8, (24, 40), 2, 1, 1), tested.backend, tested.device)
    work.forward_backward()
    work.lin.jvp(work.tangent)
    work.lin.gauss_newton_product(work.tangent, work.weights)
    work.lin.gram(work.weights)
    here = work.objective
    pcg(here.gauss_newton_product, -here.gradient, preconditioner=here.preconditioner("jacobi"), max_iterations=3)
    synchronize(tested.device)


if __name__ == "__main__":
    run(tested_on(cpu=False))
