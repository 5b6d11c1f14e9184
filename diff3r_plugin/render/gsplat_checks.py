"""The self-test of the kernels that render and apply the Jacobian in Gaussians (``self_test``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import torch_backend
from diff3r_plugin.render.gsplat_backend import GsplatLinearization
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer
from diff3r_plugin.render.linearization import Linearization
from diff3r_plugin.render.self_test import CHECKS, Case, Check

Pairs = Iterator[tuple[Tensor, Tensor]]


def own(case: Case) -> tuple[Linearization, Linearization]:
    """By our kernels alone, and by the reference."""
    alone = replace(case.rasterizer, isect_tiles=None, isect_offset_encode=None, rasterize_to_pixels=None)
    return _on_device(case, alone), torch_backend.linearize(case.scene, case.views)


def _on_device(case: Case, rasterizer: Rasterizer) -> Linearization:
    return GsplatLinearization(case.put(case.scene), case.put(case.views), rasterizer)


def _tensors(found: Gaussians, expected: Gaussians) -> Pairs:
    yield from zip(found.tensors(), expected.tensors(), strict=True)


def _rendering(case: Case) -> Pairs:
    lin, reference = own(case)
    yield lin.image, reference.image


def _jvp(case: Case) -> Pairs:
    lin, reference = own(case)
    yield lin.jvp(case.put(case.tangent)), reference.jvp(case.tangent)
    cameras = 0.1 * case.views.world_to_camera
    yield lin.jvp(case.put(case.tangent), case.put(cameras)), reference.jvp(case.tangent, cameras)


def _vjp(case: Case) -> Pairs:
    lin, reference = own(case)
    yield from _tensors(lin.vjp(case.put(case.cotangent)), reference.vjp(case.cotangent))
    found, expected = lin.vjp_cameras(case.put(case.cotangent)), reference.vjp_cameras(case.cotangent)
    yield found[1], expected[1]


def _product(case: Case) -> Pairs:
    lin, reference = own(case)
    found = lin.gauss_newton_product(case.put(case.tangent), case.put(case.pixel_weights))
    yield from _tensors(found, reference.gauss_newton_product(case.tangent, case.pixel_weights))


def _gram(case: Case) -> Pairs:
    lin, reference = own(case)
    found, expected = lin.gram(case.put(case.pixel_weights)), reference.gram(case.pixel_weights)
    yield found.core, expected.core
    if expected.sh_rest.numel():
        yield found.sh_rest, expected.sh_rest


def _gsplat(case: Case) -> Pairs:
    """What gsplat does of it, if it does."""
    if case.rasterizer.rasterize_to_pixels is not None:
        lin, reference = _on_device(case, case.rasterizer), torch_backend.linearize(case.scene, case.views)
        yield lin.image, reference.image
        yield from _tensors(lin.vjp(case.put(case.cotangent)), reference.vjp(case.cotangent))
    else:
        yield case.cotangent, case.cotangent


CHECKS += [
    Check("rendering", ("project", "count_tiles", "list_tiles", "gather_tiles", "rasterize"), _rendering),
    Check("J v", ("splat_jvp", "rasterize_jvp"), _jvp),
    Check("Jᵀ u", ("rasterize_vjp", "splat_vjp"), _vjp),
    Check("JᵀWJ v", ("rasterize_product",), _product),
    Check("Gram matrices", ("rasterize_gram", "splat_gram"), _gram),
    Check("gsplat's rendering and Jᵀ u", ("project", "splat_vjp"), _gsplat),
]
