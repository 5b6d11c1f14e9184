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

Kept from the CUDA behavior: points nearer than 0.2 are dropped, 0.3 is added
to the diagonal of the screen-space covariance, the footprint reaches three
standard deviations and is counted in 16x16 tiles, contributions under 1/255
are skipped, alpha is capped at 0.99 (the gradient passes through the cap), a
pixel stops once its transmittance would fall under 1e-4, harmonics above
degree 3 are ignored, and no gradient reaches cameras or background (except
through theta / rho).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

TILE = 16  # pixels on a tile's side
CHUNK = 256  # Gaussians composited at once in a tile
NEAR = 0.2
DILATION = 0.3
ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.99
T_STOP = 1e-4

# What the last calls cost, for whoever wants to look.
STATS = {"calls": 0, "pairs": 0}


class GaussianRasterizationSettings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool = False
    debug: bool = False
    projmatrix_raw: Tensor | None = None


# --------------------------------------------------------------------------
# color
# --------------------------------------------------------------------------
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


def _color_from_sh(means: Tensor, campos: Tensor, shs: Tensor, degree: int, polar_y: bool) -> Tensor:
    direction = means - campos
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    if polar_y:
        direction = direction[:, [2, 0, 1]]
    basis = _sh_basis(min(int(degree), 3), direction)
    color = torch.einsum("gn,gnc->gc", basis, shs[:, : basis.shape[1]]) + 0.5
    return color.clamp_min(0.0)


# --------------------------------------------------------------------------
# shape
# --------------------------------------------------------------------------
def _cov_from_scale_rotation(scales: Tensor, rotations: Tensor, mod: float) -> Tensor:
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


def _cov_from_triangle(c: Tensor) -> Tensor:
    xx, xy, xz, yy, yz, zz = c.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1).reshape(-1, 3, 3)


def _cross_matrix(v: Tensor) -> Tensor:
    zero = torch.zeros_like(v[0])
    return torch.stack(
        [
            torch.stack([zero, -v[2], v[1]]),
            torch.stack([v[2], zero, -v[0]]),
            torch.stack([-v[1], v[0], zero]),
        ]
    )


# --------------------------------------------------------------------------
# compositing
# --------------------------------------------------------------------------
def _alphas(f: Tensor, xs: Tensor, ys: Tensor):
    """Offsets and raw (uncapped) alphas of some Gaussians on a tile.

    Returns dx (k, W), dy (k, H), raw (k, H, W); raw is 0 where the contribution
    is skipped.
    """
    dx = f[:, 0:1] - xs
    dy = f[:, 1:2] - ys
    power = (-f[:, 3:4] * dy)[:, :, None] * dx[:, None, :]
    power += (-0.5 * f[:, 2:3] * dx * dx)[:, None, :]
    power += (-0.5 * f[:, 4:5] * dy * dy)[:, :, None]
    positive = power > 0
    raw = power.exp_().mul_(f[:, 5, None, None])
    raw.masked_fill_(positive | (raw < ALPHA_MIN), 0.0)
    return dx, dy, raw


class _Composite(torch.autograd.Function):
    """Front-to-back compositing of depth-sorted Gaussians over one tile.

    feat columns: x, y, conic a, conic b, conic c, opacity, r, g, b, depth.
    Returns color-and-depth sums (P, 4), transmittance (P,) and touched counts
    (K,).  The backward pass recomputes instead of storing, so that memory stays
    small however many Gaussians overlap.
    """

    @staticmethod
    def forward(ctx, feat: Tensor, xs: Tensor, ys: Tensor):
        count = xs.numel() * ys.numel()
        total = feat.new_zeros((count, 4))
        trans = feat.new_ones((count,))
        done = torch.zeros((count,), dtype=torch.bool, device=feat.device)
        touched = torch.zeros((feat.shape[0],), dtype=torch.int32, device=feat.device)
        used = 0
        for start in range(0, feat.shape[0], CHUNK):
            f = feat[start : start + CHUNK]
            _, _, raw = _alphas(f, xs, ys)
            alpha = raw.clamp_(max=ALPHA_MAX).reshape(len(f), count)
            after = torch.cumprod(1 - alpha, 0).mul_(trans)
            live = (after >= T_STOP) & ~done
            before = torch.cat([trans[None], after[:-1]])
            weight = before.mul_(alpha).mul_(live)
            total.addmm_(weight.transpose(0, 1), f[:, 6:10])
            touched[start : start + CHUNK] = ((after > 0.5) & live & (alpha > 0)).sum(1).to(torch.int32)
            # `live` is a prefix in each column: take the last living value.
            last = live.sum(0)
            found = after.gather(0, (last - 1).clamp_min(0)[None])[0]
            trans = torch.where(last > 0, found, trans)
            done |= ~live[-1]
            used = start + len(f)
            STATS["pairs"] += alpha.numel()
            if bool(done.all()):
                break
        ctx.save_for_backward(feat, xs, ys, total, trans)
        ctx.used = used
        ctx.mark_non_differentiable(touched)
        return total, trans, touched

    @staticmethod
    def backward(ctx, g_total: Tensor, g_trans: Tensor, _):
        feat, xs, ys, total, final = ctx.saved_tensors
        count, h, w = final.numel(), ys.numel(), xs.numel()
        g_feat = torch.zeros_like(feat)
        # What everything behind a Gaussian adds to the loss, at each pixel.
        behind = (total * g_total).sum(1) + final * g_trans
        trans = torch.ones_like(final)
        done = torch.zeros((count,), dtype=torch.bool, device=feat.device)
        for start in range(0, ctx.used, CHUNK):
            f = feat[start : start + CHUNK]
            k = len(f)
            dx, dy, raw = _alphas(f, xs, ys)
            raw = raw.reshape(k, count)
            alpha = raw.clamp(max=ALPHA_MAX)
            rest = 1 - alpha
            after = torch.cumprod(rest, 0).mul_(trans)
            live = (after >= T_STOP) & ~done
            before = torch.cat([trans[None], after[:-1]])
            weight = (before * alpha).mul_(live)
            gain = f[:, 6:10] @ g_total.transpose(0, 1)
            g_feat[start : start + k, 6:10] = weight @ g_total
            later = behind - torch.cumsum(weight.mul_(gain), 0)
            behind = later[-1]
            g_alpha = before.mul_(gain).sub_(later / rest).mul_(live)
            last = live.sum(0)
            found = after.gather(0, (last - 1).clamp_min(0)[None])[0]
            trans = torch.where(last > 0, found, trans)
            done = done | ~live[-1]

            g_power = g_alpha.mul_(raw)  # the cap lets gradients through
            out = g_feat[start : start + k]
            out[:, 5] = g_power.sum(1) / f[:, 5].clamp_min(1e-12)
            g_power = g_power.reshape(k, h, w)
            col, row = g_power.sum(1), g_power.sum(2)
            sx, sy = (col * dx).sum(1), (row * dy).sum(1)
            out[:, 0] = -(f[:, 2] * sx + f[:, 3] * sy)
            out[:, 1] = -(f[:, 4] * sy + f[:, 3] * sx)
            out[:, 2] = -0.5 * (col * dx * dx).sum(1)
            out[:, 4] = -0.5 * (row * dy * dy).sum(1)
            out[:, 3] = -((g_power @ dx[:, :, None])[:, :, 0] * dy).sum(1)
        return g_feat, None, None


def rasterize(
    means3D: Tensor,
    means2D: Tensor | None,
    opacities: Tensor,
    shs: Tensor | None,
    colors_precomp: Tensor | None,
    scales: Tensor | None,
    rotations: Tensor | None,
    cov3D_precomp: Tensor | None,
    settings: GaussianRasterizationSettings,
    theta: Tensor | None = None,
    rho: Tensor | None = None,
):
    s = settings
    h, w = int(s.image_height), int(s.image_width)
    device = means3D.device
    with_pose = s.projmatrix_raw is not None
    tanx, tany = float(s.tanfovx), float(s.tanfovy)
    focal_x, focal_y = w / (2 * tanx), h / (2 * tany)

    # float32 as the CUDA code has it; float64 only for numerical checks.
    dtype = torch.float64 if means3D.dtype == torch.float64 else torch.float32
    means = means3D.to(dtype)
    view = s.viewmatrix.detach().to(dtype)
    proj = s.projmatrix.detach().to(dtype)
    campos = s.campos.detach().to(dtype)
    bg = s.bg.detach().to(dtype)

    # Camera space (row vectors: the matrices arrive transposed).
    rot = view[:3, :3].transpose(0, 1)  # world to camera
    cam = means @ view[:3, :3] + view[3, :3]
    ones = torch.ones_like(cam[:, :1])
    if with_pose and (theta is not None or rho is not None):
        # First order in the small camera motion, exact at zero.
        if theta is not None:
            cross = _cross_matrix(theta.to(dtype))
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
        cov3d = _cov_from_triangle(cov3D_precomp.to(dtype))
    else:
        cov3d = _cov_from_scale_rotation(scales.to(dtype), rotations.to(dtype), float(s.scale_modifier))
    front = cam[:, 2] > NEAR
    z = torch.where(front, cam[:, 2], torch.ones_like(cam[:, 2]))
    lim_x, lim_y = 1.3 * tanx, 1.3 * tany
    u = (cam[:, 0] / z).clamp(-lim_x, lim_x)
    v = (cam[:, 1] / z).clamp(-lim_y, lim_y)
    zero = torch.zeros_like(z)
    jac = torch.stack([focal_x / z, zero, -focal_x * u / z, zero, focal_y / z, -focal_y * v / z], -1).reshape(-1, 2, 3)
    m = jac @ rot
    cov2d = m @ cov3d @ m.transpose(1, 2)
    a = cov2d[:, 0, 0] + DILATION
    b = cov2d[:, 0, 1]
    c = cov2d[:, 1, 1] + DILATION
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
        color = _color_from_sh(means, campos, shs.to(dtype), s.sh_degree, not with_pose)

    feat = torch.cat([pix, conic, opacities.to(dtype).reshape(-1, 1), color, cam[:, 2:3]], -1)[order]

    STATS["calls"] += 1
    n_touched = torch.zeros((means.shape[0],), dtype=torch.int32, device=device)
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
            total, trans, touched = _Composite.apply(
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
    if not with_pose:
        return image, radii
    return image, radii, sums[..., 3][None], (1 - trans)[None], n_touched


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
            means3D,
            means2D,
            opacities,
            shs,
            colors_precomp,
            scales,
            rotations,
            cov3D_precomp,
            self.raster_settings,
            theta,
            rho,
        )
