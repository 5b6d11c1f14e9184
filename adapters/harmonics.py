"""Spherical harmonics of hosts that rotate them with e3nn, in the basis of gsplat and this package."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.render.spherical_harmonics import spherical_harmonics_basis

E3NN_AXES = (2, 0, 1)
"""The hosts' rasteriser evaluates the usual basis at (d_z, d_x, d_y), since e3nn's polar axis is y."""


@lru_cache(maxsize=8)
def e3nn_to_standard(degree: int) -> Float[Tensor, "K K"]:
    """Matrix M with standard = M · e3nn for the coefficients of one colour channel; orthogonal, block-diagonal.

    A colour is Σ c_i Y_i(P d) with the axes permuted by P. Each degree's functions span the same space before and
    after, so Y(P d) = Mᵀ Y(d) exactly, and M follows from as many directions as there are functions (more, for a
    well-conditioned system).

    >>> import torch
    >>> M = e3nn_to_standard(3)
    >>> torch.allclose(M @ M.T, torch.eye(16, dtype=torch.float64), atol=1e-12)
    True
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(512, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    standard = spherical_harmonics_basis(directions, degree)
    permuted = spherical_harmonics_basis(directions[:, list(E3NN_AXES)], degree)
    matrix = torch.linalg.lstsq(standard, permuted).solution
    return torch.where(matrix.abs() < 1e-12, 0.0, matrix)
