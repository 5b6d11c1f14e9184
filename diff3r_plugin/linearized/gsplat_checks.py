"""The self-test of the kernels that work in θ, and of those for vectors (``render.self_test``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.linalg.preconditioners import Jacobi
from diff3r_plugin.linalg.vector_updates import FusedUpdates, TorchUpdates, on_gpu
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
        alone = replace(self._case.rasterizer, rasterize_to_pixels=None)
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


def _vectors(case: Case) -> Pairs:
    """An iteration of conjugate gradients with made-up products, and what happens to a system that is not good."""
    generator = torch.Generator().manual_seed(2)
    r, Ap, x0 = (torch.randn(3, 1500, generator=generator).double() for _ in range(3))
    diagonal = 1 + torch.rand(3, 1500, generator=generator).double()
    alpha, beta = torch.tensor([0.5, -0.25, 0.0]).double(), torch.tensor([0.0, 1.5, 2.0]).double()
    good = torch.tensor([True, False, True])
    put = case.put
    run = on_gpu(case.rasterizer.kernels, case.rasterizer.stream)
    exact = TorchUpdates(Jacobi(diagonal, torch.zeros_like(diagonal)))
    ours = FusedUpdates(Jacobi(put(diagonal), torch.zeros_like(put(diagonal))), run)
    now, expected = ours.measure(put(r)), exact.measure(r)
    yield now.rz, expected.rz
    x, p = ours.start(now, put(x0))
    x_exact, p_exact = exact.start(expected, x0)
    new, new_exact = ours.advance(now.r, put(Ap), put(alpha)), exact.advance(expected.r, Ap, alpha)
    yield from ((new.r, new_exact.r), (new.rz, new_exact.rz), (new.squared, new_exact.squared))
    kept, kept_exact = ours.restore(good.to(case.device), new, now.r), exact.restore(good, new_exact, expected.r)
    yield kept.r, kept_exact.r
    x, x_exact = ours.step(x, p, put(alpha)), exact.step(x_exact, p_exact, alpha)
    yield x.clone(), x_exact
    x, p = ours.follow(x, p, kept, put(alpha), put(beta))
    x_exact, p_exact = exact.follow(x_exact, p_exact, exact.measure(kept_exact.r), alpha, beta)
    yield from ((x, x_exact), (p, p_exact), (ours.dot(x, p), exact.dot(x_exact, p_exact)))


CHECKS += [
    Check("scene at θ", ("chart_decode", "chart_decode_harmonics"), _decoded),
    Check("J v in θ", ("chart_splat_jvp",), _jvp),
    Check("gradient in θ", ("chart_splat_vjp", "products"), _gradient),
    Check("JᵀWJ v in θ", ("rasterize_product", "chart_splat_jvp", "chart_splat_vjp"), _product),
    Check("diagonal of JᵀWJ in θ", ("mean_moves", "rasterize_gram_diagonal", "chart_gram_diagonal"), _gram_diagonal),
    Check("vectors of conjugate gradients", ("measure", "advance", "restore", "step", "follow", "products"), _vectors),
]
