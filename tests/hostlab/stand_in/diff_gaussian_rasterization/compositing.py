"""Compositing of one tile, with a backward written by hand."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 256  # Gaussians composited at once in a tile
ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.99
T_STOP = 1e-4

# What the last calls cost, for whoever wants to look.
STATS = {"calls": 0, "pairs": 0}


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


class Composite(torch.autograd.Function):
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
