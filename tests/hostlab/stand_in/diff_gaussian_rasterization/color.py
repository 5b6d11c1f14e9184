"""Colors from spherical harmonics."""

from __future__ import annotations

import torch
from torch import Tensor


def _sh_basis(degree: int, d: Tensor) -> Tensor:
    """Real spherical harmonics (z polar, Condon-Shortley sign), shape (G, n)."""
    x, y, z = d.unbind(-1)
    out = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        a = 0.4886025119029199
        out += [-a * y, a * z, -a * x]
    if degree >= 2:
        a, b, c = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
        out += [
            a * x * y,
            -a * y * z,
            b * (3 * z * z - 1),
            -a * x * z,
            c * (x * x - y * y),
        ]
    if degree >= 3:
        a, b = 0.5900435899266435, 2.890611442640554
        c, e, f = 0.4570457994644658, 0.3731763325901154, 1.445305721320277
        out += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * (5 * z * z - 1),
            e * z * (5 * z * z - 3),
            -c * x * (5 * z * z - 1),
            f * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(out, dim=-1)


def color_from_sh(means: Tensor, campos: Tensor, shs: Tensor, degree: int, polar_y: bool) -> Tensor:
    direction = means - campos
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    if polar_y:
        direction = direction[:, [2, 0, 1]]
    basis = _sh_basis(min(int(degree), 3), direction)
    color = torch.einsum("gn,gnc->gc", basis, shs[:, : basis.shape[1]]) + 0.5
    return color.clamp_min(0.0)
