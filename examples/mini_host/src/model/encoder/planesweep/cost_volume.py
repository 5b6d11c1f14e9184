"""Plane sweep: how well each pixel matches the other views at a range of depths."""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from ....geometry.projection import sample_image_grid, unproject


def depth_candidates(
    near: Float[Tensor, "batch view"], far: Float[Tensor, "batch view"], count: int
) -> Float[Tensor, "batch view count"]:
    """Depths at even steps of disparity, nearest first."""
    step = torch.linspace(0, 1, count, dtype=near.dtype, device=near.device)
    return 1 / ((1 - step) / near[..., None] + step / far[..., None])


def build_cost_volumes(
    features: Float[Tensor, "batch view channel height width"],
    group_sizes: tuple[int, ...],
    extrinsics: Float[Tensor, "batch view 4 4"],
    intrinsics: Float[Tensor, "batch view 3 3"],
    depths: Float[Tensor, "batch view count"],
) -> tuple[Float[Tensor, "batch view group count height width"], Float[Tensor, "batch view count height width"]]:
    """Correlation of each view's features with those of the other views, warped along planes of constant depth.

    Args:
        group_sizes: Channels of each group of features; every group gives a volume of its own.

    Returns:
        The mean correlation over the other views, in [-1, 1] where a group's features have unit length, and the
        share of them that see the point.
    """
    b, v, _, h, w = features.shape
    rays = unproject(sample_image_grid((h, w), features.device), intrinsics[:, :, None, None])
    total = features.new_zeros((b, v, len(group_sizes), depths.shape[-1], h, w))
    seen = features.new_zeros((b, v, depths.shape[-1], h, w))
    for shift in range(1, v):
        other = torch.arange(v).roll(-shift)
        warped, visible = _warp(
            features[:, other], rays, depths, extrinsics, extrinsics[:, other], intrinsics[:, other]
        )
        product = features[:, :, :, None] * warped
        total = total + torch.stack([group.sum(2) for group in product.split(group_sizes, 2)], 2)
        seen = seen + visible
    return total / seen.clamp_min(1)[:, :, None], seen / max(v - 1, 1)


def _warp(
    features: Float[Tensor, "batch view channel height width"],
    rays: Float[Tensor, "batch view height width 3"],
    depths: Float[Tensor, "batch view count"],
    extrinsics: Float[Tensor, "batch view 4 4"],
    other_extrinsics: Float[Tensor, "batch view 4 4"],
    other_intrinsics: Float[Tensor, "batch view 3 3"],
) -> tuple[Float[Tensor, "batch view channel count height width"], Float[Tensor, "batch view count height width"]]:
    """Features of the other views where they see each pixel's ray at each depth, and whether they do."""
    b, h = features.shape[0], features.shape[3]
    to_other = other_extrinsics.inverse() @ extrinsics
    project = other_intrinsics @ to_other[..., :3, :3]
    offset = einsum(other_intrinsics, to_other[..., :3, 3], "b v i j, b v j -> b v i")
    direction = einsum(project, rays, "b v i j, b v h w j -> b v h w i")
    points = direction[:, :, None] * depths[..., None, None, None] + offset[:, :, None, None, None]
    z = points[..., 2:]
    xy = points[..., :2] / z.clamp_min(1e-3)
    visible = ((xy > 0) & (xy < 1)).all(-1) & (z[..., 0] > 1e-3)
    grid = torch.where(visible[..., None], xy * 2 - 1, 2.0)
    warped = F.grid_sample(
        rearrange(features, "b v c h w -> (b v) c h w"),
        rearrange(grid, "b v d h w xy -> (b v) (d h) w xy"),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return rearrange(warped, "(b v) c (d h) w -> b v c d h w", b=b, h=h), visible.to(features.dtype)
