"""A plain-PyTorch stand-in for the CUDA package of the same name.

It lets code written for the CUDA rasterizer run on a machine without one.  It
is meant for small images (64x64 to 128x128) and a few ten thousand Gaussians.
Nothing here is compiled; gradients come from autograd, with a hand-written
backward for the compositing.

Two dialects of the CUDA package are served, told apart by the settings:

* plain      : no ``projmatrix_raw``; the call returns ``(color, radii)``;
               spherical harmonics use y as the polar axis (e3nn's order).
* with pose  : ``projmatrix_raw`` given; the call takes ``theta`` / ``rho`` and
               returns ``(color, radii, depth, opacity, n_touched)``; spherical
               harmonics use z as the polar axis.

Kept from the CUDA behavior: points nearer than 0.2 are dropped, 0.3 (or what
the settings say) is added to the diagonal of the screen-space covariance, the footprint reaches three
standard deviations and is counted in 16x16 tiles, contributions under 1/255
are skipped, alpha is capped at 0.99 (the gradient passes through the cap), a
pixel stops once its transmittance would fall under 1e-4, harmonics above
degree 3 are ignored, and no gradient reaches cameras or background (except
through theta / rho).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diff_gaussian_rasterization.compositing import STATS, Composite
from diff_gaussian_rasterization.screen import NEAR, TILE, on_screen
from diff_gaussian_rasterization.settings import GaussianRasterizationSettings


def rasterize(settings: GaussianRasterizationSettings, *gaussians: Tensor | None):
    """The image, and what else the dialect returns; ``gaussians`` as `on_screen` takes them, but for the settings."""
    *shown, theta, rho = gaussians
    found = on_screen(*shown, settings, theta, rho)
    order, feat = found.order, found.feat
    x_lo, x_hi, y_lo, y_hi = found.tiles
    mid_x, ext_x, mid_y, ext_y = found.reach
    h, w = int(settings.image_height), int(settings.image_width)
    dtype, device = feat.dtype, feat.device
    nx, ny = (w + TILE - 1) // TILE, (h + TILE - 1) // TILE
    bg = settings.bg.detach().to(dtype)

    STATS["calls"] += 1
    n_touched = torch.zeros(found.radii.shape, dtype=torch.int32, device=device)
    rows_c, rows_t = [], []
    for ty in range(ny):
        y0, y1 = ty * TILE, min(h, ty * TILE + TILE)
        row = (y_lo <= ty) & (y_hi > ty)
        row &= (mid_y + ext_y >= y0) & (mid_y - ext_y <= y1 - 1)
        tiles_c, tiles_t = [], []
        for tx in range(nx):
            x0, x1 = tx * TILE, min(w, tx * TILE + TILE)
            inside = row & (x_lo <= tx) & (x_hi > tx)
            inside &= (mid_x + ext_x >= x0) & (mid_x - ext_x <= x1 - 1)
            members = inside.nonzero()[:, 0]
            total, trans, touched = Composite.apply(
                feat[members],
                torch.arange(x0, x1, device=device, dtype=dtype),
                torch.arange(y0, y1, device=device, dtype=dtype),
            )
            n_touched.index_add_(0, order[members], touched)
            tiles_c.append(total.reshape(y1 - y0, x1 - x0, 4))
            tiles_t.append(trans.reshape(y1 - y0, x1 - x0))
        rows_c.append(torch.cat(tiles_c, 1))
        rows_t.append(torch.cat(tiles_t, 1))
    sums = torch.cat(rows_c, 0)
    trans = torch.cat(rows_t, 0)
    image = (sums[..., :3] + trans[..., None] * bg).permute(2, 0, 1).contiguous()
    if settings.projmatrix_raw is None:
        return image, found.radii
    return image, found.radii, sums[..., 3][None], (1 - trans)[None], n_touched


class GaussianRasterizer(nn.Module):
    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    @torch.no_grad()
    def markVisible(self, positions: Tensor) -> Tensor:
        view = self.raster_settings.viewmatrix
        return (positions @ view[:3, 2] + view[3, 2]) > NEAR

    def forward(
        self,
        means3D: Tensor,
        means2D: Tensor | None,
        opacities: Tensor,
        shs: Tensor | None = None,
        colors_precomp: Tensor | None = None,
        scales: Tensor | None = None,
        rotations: Tensor | None = None,
        cov3D_precomp: Tensor | None = None,
        theta: Tensor | None = None,
        rho: Tensor | None = None,
    ):
        if (shs is None) == (colors_precomp is None):
            raise ValueError("give either shs or colors_precomp")
        shape_given = scales is not None and rotations is not None
        if shape_given == (cov3D_precomp is not None):
            raise ValueError("give either scales and rotations, or cov3D_precomp")
        return rasterize(
            self.raster_settings,
            means3D,
            means2D,
            opacities,
            shs,
            colors_precomp,
            scales,
            rotations,
            cov3D_precomp,
            theta,
            rho,
        )
