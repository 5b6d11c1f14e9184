"""Real spherical harmonics in PyTorch: the basis of 3D Gaussian splatting, degrees 0 to 4."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = sqrt(1 / (4 * pi))
"""Value of the constant basis function, so that color = SH_C0 * coefficient + 0.5 at degree 0."""


def spherical_harmonics_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch K"]:
    """Values of the (degree + 1)² real basis functions at unit directions, in gsplat's order and signs.

    Args:
        directions: Unit vectors, ``[..., 3]``.
        degree: 0 to 4.

    Raises:
        ValueError: if the degree is outside 0 to 4.

    Example:
        >>> import torch
        >>> from diff3r_plugin.render.spherical_harmonics import spherical_harmonics_basis
        >>> spherical_harmonics_basis(torch.tensor([0.0, 0.0, 1.0]), 1)
        tensor([0.2821, -0.0000, 0.4886, -0.0000])
    """
    if not 0 <= degree <= 4:
        raise ValueError(f"SH degree must be 0 to 4, got {degree}.")
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    bands = [[torch.full_like(x, SH_C0)]]
    if degree >= 1:
        c = sqrt(3 / (4 * pi))
        bands.append([-c * y, c * z, -c * x])
    if degree >= 2:
        c = sqrt(15 / (4 * pi))
        bands.append(
            [
                c * x * y,
                -c * y * z,
                sqrt(5 / (16 * pi)) * (3 * zz - 1),
                -c * x * z,
                c / 2 * (xx - yy),
            ]
        )
    if degree >= 3:
        c1, c2, c3 = sqrt(21 / (32 * pi)), sqrt(105 / (4 * pi)), sqrt(35 / (32 * pi))
        bands.append(
            [
                -c3 * y * (3 * xx - yy),
                c2 * x * y * z,
                -c1 * y * (5 * zz - 1),
                sqrt(7 / (16 * pi)) * z * (5 * zz - 3),
                -c1 * x * (5 * zz - 1),
                c2 / 2 * z * (xx - yy),
                -c3 * x * (xx - 3 * yy),
            ]
        )
    if degree >= 4:
        c1, c2 = 3 * sqrt(5 / (8 * pi)), 3 * sqrt(5 / (16 * pi))
        c3, c4 = 3 * sqrt(35 / (8 * pi)), 3 * sqrt(35 / (16 * pi))
        bands.append(
            [
                c4 * x * y * (xx - yy),
                -c3 / 2 * y * z * (3 * xx - yy),
                c2 * x * y * (7 * zz - 1),
                -c1 / 2 * y * z * (7 * zz - 3),
                3 / 16 / sqrt(pi) * (35 * zz * zz - 30 * zz + 3),
                -c1 / 2 * x * z * (7 * zz - 3),
                c2 / 2 * (xx - yy) * (7 * zz - 1),
                -c3 / 2 * x * z * (xx - 3 * yy),
                c4 / 4 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
            ]
        )
    return torch.stack([function for band in bands for function in band], -1)


@cache
def basis_change(rotation: tuple[tuple[float, float, float], ...], degree: int) -> Float[Tensor, "K K"]:
    """The matrix M with Y(R d) = M Y(d): coefficients h of a field seen through R become hᵀM (float64, exact per band).

    Args:
        rotation: Rows of the orthogonal matrix R.
        degree: 0 to 4.

    Example:
        >>> from diff3r_plugin.render.spherical_harmonics import E3NN_AXES, basis_change
        >>> basis_change(E3NN_AXES, 1)[1:, 1:].abs().round()
        tensor([[0., 0., 1.],
                [1., 0., 0.],
                [0., 1., 0.]], dtype=torch.float64)
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(512, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    turned = directions @ torch.tensor(rotation, dtype=torch.float64).T
    before, after = (spherical_harmonics_basis(d, degree) for d in (directions, turned))
    matrix = torch.linalg.lstsq(before, after).solution.T
    # A rotation mixes nothing between bands; what the fit leaves there, and below rounding elsewhere, is noise.
    band = torch.tensor([order for order in range(degree + 1) for _ in range(2 * order + 1)])
    noise = (band[:, None] != band) | (matrix.abs() < 1e-12)
    return torch.where(noise, 0, matrix)


E3NN_AXES = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""Rasterizers of the pixelSplat family evaluate SH at (d_z, d_x, d_y), the axis order of e3nn."""


def from_e3nn_order(harmonics: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """SH coefficients of a pixelSplat-family host (e3nn axes) as coefficients of the basis used here."""
    degree = round(harmonics.shape[-1] ** 0.5) - 1
    return harmonics @ basis_change(E3NN_AXES, degree).to(harmonics)


def to_e3nn_order(harmonics: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """The inverse of :func:`from_e3nn_order`."""
    degree = round(harmonics.shape[-1] ** 0.5) - 1
    return harmonics @ basis_change(E3NN_AXES, degree).to(harmonics).mT
