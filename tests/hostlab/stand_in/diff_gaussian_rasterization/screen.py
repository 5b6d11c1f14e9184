"""Gaussians on the screen: where they are, what they cover, and which tiles they touch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diff_gaussian_rasterization.color import color_from_sh
from diff_gaussian_rasterization.settings import GaussianRasterizationSettings
from diff_gaussian_rasterization.shape import cov_from_scale_rotation, cov_from_triangle, cross_matrix

TILE = 16  # pixels on a tile's side
NEAR = 0.2


class Screen(NamedTuple):
    """Those that are rendered, nearest first, and the pixel radii of all."""

    order: Tensor  # their numbers
    radii: Tensor
    feat: Tensor  # see Composite
    tiles: tuple[Tensor, Tensor, Tensor, Tensor]  # first and last + 1 across, the same down
    reach: tuple[Tensor, Tensor, Tensor, Tensor]  # center and half extent across, the same down


def on_screen(
    means3D: Tensor,
    means2D: Tensor | None,
    opacities: Tensor,
    shs: Tensor | None,
    colors_precomp: Tensor | None,
    scales: Tensor | None,
    rotations: Tensor | None,
    cov3D_precomp: Tensor | None,
    settings: GaussianRasterizationSettings,
    theta: Tensor | None,
    rho: Tensor | None,
) -> Screen:
    s = settings
    h, w = int(s.image_height), int(s.image_width)
    with_pose = s.projmatrix_raw is not None
    tanx, tany = float(s.tanfovx), float(s.tanfovy)
    focal_x, focal_y = w / (2 * tanx), h / (2 * tany)

    # float32 as the CUDA code has it; float64 only for numerical checks.
    dtype = torch.float64 if means3D.dtype == torch.float64 else torch.float32
    means = means3D.to(dtype)
    view = s.viewmatrix.detach().to(dtype)
    proj = s.projmatrix.detach().to(dtype)
    campos = s.campos.detach().to(dtype)

    # Camera space (row vectors: the matrices arrive transposed).
    rot = view[:3, :3].transpose(0, 1)  # world to camera
    cam = means @ view[:3, :3] + view[3, :3]
    ones = torch.ones_like(cam[:, :1])
    if with_pose and (theta is not None or rho is not None):
        # First order in the small camera motion, exact at zero.
        if theta is not None:
            cross = cross_matrix(theta.to(dtype))
            cam = cam + cam @ cross.transpose(0, 1)
            rot = rot + cross @ rot
        if rho is not None:
            cam = cam + rho.to(dtype)
            campos = campos - view[:3, :3] @ rho.to(dtype)
        hom = torch.cat([cam, ones], -1) @ s.projmatrix_raw.detach().to(dtype)
    else:
        hom = torch.cat([means, ones], -1) @ proj
    ndc = hom[:, :2] / (hom[:, 3:4] + 1e-7)
    if means2D is not None:
        ndc = ndc + means2D.to(dtype)[:, :2]  # carries the screen-space gradient
    size = ndc.new_tensor([w, h])
    pix = ((ndc + 1) * size - 1) * 0.5

    # Screen-space covariance.
    if cov3D_precomp is not None:
        cov3d = cov_from_triangle(cov3D_precomp.to(dtype))
    else:
        cov3d = cov_from_scale_rotation(scales.to(dtype), rotations.to(dtype), float(s.scale_modifier))
    front = cam[:, 2] > NEAR
    z = torch.where(front, cam[:, 2], torch.ones_like(cam[:, 2]))
    lim_x, lim_y = 1.3 * tanx, 1.3 * tany
    u = (cam[:, 0] / z).clamp(-lim_x, lim_x)
    v = (cam[:, 1] / z).clamp(-lim_y, lim_y)
    zero = torch.zeros_like(z)
    jac = torch.stack([focal_x / z, zero, -focal_x * u / z, zero, focal_y / z, -focal_y * v / z], -1).reshape(-1, 2, 3)
    m = jac @ rot
    cov2d = m @ cov3d @ m.transpose(1, 2)
    a = cov2d[:, 0, 0] + s.low_pass
    b = cov2d[:, 0, 1]
    c = cov2d[:, 1, 1] + s.low_pass
    det = a * c - b * b
    good = front & (det > 0)
    det = torch.where(good, det, torch.ones_like(det))
    conic = torch.stack([c / det, -b / det, a / det], -1)

    with torch.no_grad():
        mid = 0.5 * (a + c)
        big = mid + (mid * mid - det).clamp_min(0.1).sqrt()
        radius = torch.ceil(3.0 * big.clamp_min(0).sqrt())
        good = good & torch.isfinite(radius) & torch.isfinite(pix).all(-1)
        nx, ny = (w + TILE - 1) // TILE, (h + TILE - 1) // TILE

        def span(center, n):
            lo = ((center - radius) / TILE).nan_to_num().clamp(-1e6, 1e6).trunc()
            hi = ((center + radius + TILE - 1) / TILE).nan_to_num().clamp(-1e6, 1e6).trunc()
            return lo.clamp(0, n), hi.clamp(0, n)

        x_lo, x_hi = span(pix[:, 0], nx)
        y_lo, y_hi = span(pix[:, 1], ny)
        good = good & (x_hi > x_lo) & (y_hi > y_lo)
        radii = torch.where(good, radius, torch.zeros_like(radius)).to(torch.int32)
        index = good.nonzero()[:, 0]
        order = index[torch.sort(cam[index, 2], stable=True).indices]
        x_lo, x_hi, y_lo, y_hi = (q[order] for q in (x_lo, x_hi, y_lo, y_hi))
        # Beyond these distances alpha is under 1/255 anyway: a tighter box that
        # changes nothing.
        reach = (2 * (255 * opacities.reshape(-1)[order]).clamp_min(1).log()).sqrt()
        reach = reach * 1.001 + 1e-3
        ext_x, ext_y = reach * a[order].sqrt(), reach * c[order].sqrt()
        mid_x, mid_y = pix[order, 0], pix[order, 1]

    if colors_precomp is not None:
        color = colors_precomp.to(dtype)
    else:
        color = color_from_sh(means, campos, shs.to(dtype), s.sh_degree, not with_pose)

    feat = torch.cat([pix, conic, opacities.to(dtype).reshape(-1, 1), color, cam[:, 2:3]], -1)[order]
    return Screen(order, radii, feat, (x_lo, x_hi, y_lo, y_hi), (mid_x, ext_x, mid_y, ext_y))
