"""The self-test of the kernels that work in θ, and of those for vectors (``render.self_test``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.linalg import Jacobi, device_pcg
from diff3r_plugin.linalg.pcg import solve
from diff3r_plugin.linalg.vector_updates import TorchUpdates
from diff3r_plugin.linearized.charted_gsplat import GsplatCharted
from diff3r_plugin.linearized.composed import ComposedLinearization
from diff3r_plugin.linearized.fused import FusedLinearization
from diff3r_plugin.render.self_test import CHECKS, Case, Check
from diff3r_plugin.views import Views

Pairs = Iterator[tuple[Tensor, Tensor]]

GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest", "poses")


class Linearizations:
    """At one θ, by the kernels and by the reference, and vectors of θ."""

    def __init__(self, case: Case) -> None:
        self._case = case
        given = case.scene, case.views
        self._exact = Coordinates(*given, GROUPS)
        shape, generator = (case.scene.batch_size, self._exact.num_unknowns), torch.Generator().manual_seed(1)
        self.theta, self.vector, self.center = (
            (0.05 * torch.randn(shape, generator=generator)).double() for _ in range(3)
        )
        self.diagonal = torch.rand(shape, generator=generator).double()
        self.reference = ComposedLinearization(self._exact, self.theta, case.views, "torch")
        self.scene, self.first_pose = self._exact.decode(self.theta), self._exact.first_unknown("poses")
        rounded = Coordinates(case.put(case.scene), case.put(case.views), GROUPS)
        self.found = FusedLinearization(rounded, case.put(self.theta), case.put(case.views), self._charted)

    def _charted(self, coordinates: Coordinates, theta: Tensor, views: Views) -> GsplatCharted:
        alone = replace(self._case.rasterizer, isect_tiles=None, isect_offset_encode=None, rasterize_to_pixels=None)
        self.charted = GsplatCharted(coordinates, theta, views, alone)
        return self.charted


def _decoded(case: Case) -> Pairs:
    both = Linearizations(case)
    yield both.found.image, both.reference.image
    decoded = both.charted.scene.tensors
    for name in ("means", "covariances", "opacities", "harmonics"):
        yield decoded[name], getattr(both.scene, name)


def _jvp(case: Case) -> Pairs:
    both = Linearizations(case)
    yield both.found.jvp(case.put(both.vector)), both.reference.jvp(both.vector)


def _gradient(case: Case) -> Pairs:
    both = Linearizations(case)
    given = case.cotangent, both.diagonal, both.center
    yield both.found.gradient(*map(case.put, given)), both.reference.gradient(*given)
    weights, center = both.diagonal, both.center
    found = both.found.weighted_distance(case.put(weights), case.put(center))
    yield found, both.reference.weighted_distance(weights, center)


def _product(case: Case) -> Pairs:
    both = Linearizations(case)
    given = both.vector, case.pixel_weights, both.diagonal
    yield both.found.gauss_newton_product(*map(case.put, given)), both.reference.gauss_newton_product(*given)


def _gram_diagonal(case: Case) -> Pairs:
    both = Linearizations(case)
    found = both.found.gram_diagonal(case.put(case.pixel_weights))
    expected = both.reference.gram_diagonal(case.pixel_weights)
    yield found[:, : both.first_pose], expected[:, : both.first_pose]


_OF_SOLVES = (
    "pcg_measure",
    "pcg_begin",
    "pcg_curvature",
    "pcg_advance",
    "pcg_trial",
    "pcg_drift",
    "pcg_replace",
    "pcg_follow",
)


def _solves(case: Case) -> Pairs:
    """Of three diagonal systems: one continues, one breaks at once; of the third the first product is wrong, so that
    its residual is replaced."""
    generator = torch.Generator().manual_seed(2)
    b, x0 = (torch.randn(3, 1500, generator=generator).double() for _ in range(2))
    diagonal = 1 + torch.rand(3, 1500, generator=generator).double()
    diagonal[1] = -diagonal[1]
    jacobi = 1 + torch.rand(3, 1500, generator=generator).double()
    settings = (4, 0.0, 2)  # iterations, tolerance, and every second one is stabilized

    def product(matrix: Tensor) -> Callable[[Tensor], Tensor]:
        wrong, products = torch.tensor([1.0, 1.0, 1.5]).to(matrix)[:, None], iter(range(99))
        return lambda v: matrix * v * (wrong if next(products) == 1 else 1)

    launch = device_pcg.launcher(case.rasterizer.kernels, case.rasterizer.stream)
    preconditioner = Jacobi(case.put(jacobi))
    found = device_pcg.solve(launch, product(case.put(diagonal)), case.put(b), case.put(x0), preconditioner, *settings)
    exact = solve(product(diagonal), b, x0, TorchUpdates(Jacobi(jacobi)), *settings)
    yield from ((found.solution, exact.solution), (found.residual, exact.residual))
    yield found.relative_residual, exact.relative_residual
    yield found.iterations.double(), exact.iterations.double()
    yield found.reason_codes.double(), exact.reason_codes.double()


CHECKS += [
    Check("scene at θ", ("chart_decode", "chart_decode_harmonics"), _decoded),
    Check("J v in θ", ("chart_splat_jvp",), _jvp),
    Check("gradient in θ", ("chart_splat_vjp", "products"), _gradient),
    Check("JᵀWJ v in θ", ("rasterize_product", "chart_splat_jvp", "chart_splat_vjp"), _product),
    Check("diagonal of JᵀWJ in θ", ("mean_moves", "rasterize_gram_diagonal", "chart_gram_diagonal"), _gram_diagonal),
    Check("conjugate gradients", _OF_SOLVES, _solves),
]
