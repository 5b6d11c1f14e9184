"""Covariances from what a caller may give instead."""

from __future__ import annotations

import torch
from torch import Tensor


def cov_from_scale_rotation(scales: Tensor, rotations: Tensor, mod: float) -> Tensor:
    w, x, y, z = rotations.unbind(-1)
    r = torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)
    m = r * (scales * mod)[:, None, :]
    return m @ m.transpose(1, 2)


def cov_from_triangle(c: Tensor) -> Tensor:
    xx, xy, xz, yy, yz, zz = c.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1).reshape(-1, 3, 3)


def cross_matrix(v: Tensor) -> Tensor:
    zero = torch.zeros_like(v[0])
    return torch.stack(
        [
            torch.stack([zero, -v[2], v[1]]),
            torch.stack([v[2], zero, -v[0]]),
            torch.stack([-v[1], v[0], zero]),
        ]
    )
