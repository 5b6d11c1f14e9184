"""No float32 matrix product in the layer's own work: on a GPU it may be rounded to TF32, and J and Jᵀ come apart."""

import pytest
import torch
from scenes import refinable_scene
from torch.utils._python_dispatch import TorchDispatchMode

from diff3r_plugin import Gaussians
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.linalg import pcg
from diff3r_plugin.objective import Objective

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "matmul", "einsum", "linear")


class Refuse(TorchDispatchMode):
    """Names the matrix products in less than double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        low = any(isinstance(a, torch.Tensor) and a.is_floating_point() and a.dtype != torch.float64 for a in args)
        if low and func.overloadpacket.__name__ in PRODUCTS:
            self.seen.append(f"{func} {[tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def objective(compiled_backend):
    """With poses and either chart of covariances, linearized in float32."""

    def make(scales: bool) -> Objective:
        scene, views = refinable_scene(gaussians=5, size=(16, 16))
        if scales:
            B, N = scene.batch_size, scene.num_gaussians
            shape = {"scales": torch.rand(B, N, 3) + 0.1, "quats": torch.randn(B, N, 4)}
            scene = Gaussians(scene.means, None, scene.opacities, scene.harmonics, **shape)
        scene, views = scene.to(torch.float32), views.to(torch.float32)
        coordinates = Coordinates(scene, views, tuple(GROUPS))
        zero = torch.zeros(scene.batch_size, coordinates.num_unknowns)
        return Objective(coordinates, views, zero, torch.ones_like(zero), backend=compiled_backend)

    return make


@pytest.mark.parametrize("scales", [False, True], ids=["covariances", "scales"])
def test_no_step_of_a_solve_has_a_matrix_product_in_float32(objective, scales):
    with Refuse() as refuse:
        problem = objective(scales)
        here = problem.linearize(problem.theta0 + 0.01)
        for kind in ("jacobi", "none"):
            pcg(here.gauss_newton_product, -here.gradient, preconditioner=here.preconditioner(kind), max_iterations=3)
        here.jvp(here.gradient)
        problem.energy(here.theta)
    assert refuse.seen == []


def test_the_watch_sees_matrix_products():
    with Refuse() as refuse:
        _ = torch.ones(2, 3, 3) @ torch.ones(2, 3, 3)
        _ = torch.ones(2, 3, 3).double() @ torch.ones(2, 3, 3).double()
    assert len(refuse.seen) == 1


def test_products_stay_adjoint_where_the_host_asks_for_speed(objective):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        problem = objective(False)
        here = problem.linearize(problem.theta0 + 0.01)
        v, u = torch.randn_like(here.theta), torch.randn_like(here.residual)
        torch.testing.assert_close((here.jvp(v) * u).sum(), (here.vjp(u) * v).sum(), rtol=1e-4, atol=1e-4)
    finally:
        torch.set_float32_matmul_precision(before)
