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
    groups: tuple[Float[Tensor, "batch view _ height width"], ...],
    extrinsics: Float[Tensor, "batch view 4 4"],
    intrinsics: Float[Tensor, "batch view 3 3"],
    depths: Float[Tensor, "batch view count"],
) -> tuple[Float[Tensor, "batch view group count height width"], Float[Tensor, "batch view count height width"]]:
    """Correlation of each view's features with those of the other views, warped along planes of constant depth.

    Args:
        groups: Feature maps, each of which gives a volume of its own.

    Returns:
        The mean correlation over the other views, in [-1, 1] where a group's features have unit length, and the
        share of them that see the point.
    """
    b, v, _, h, w = groups[0].shape
    rays = unproject(sample_image_grid((h, w), depths.device), intrinsics[:, :, None, None])
    volumes: list[Tensor | float] = [0.0] * len(groups)
    seen = depths.new_zeros((b, v, depths.shape[-1], h, w))
    for shift in range(1, v):
        other = torch.arange(v).roll(-shift)
        grid, visible = _sampling_grid(rays, depths, extrinsics, extrinsics[:, other], intrinsics[:, other])
        seen = seen + visible
        for index, features in enumerate(groups):
            warped = F.grid_sample(
                rearrange(features[:, other], "b v c h w -> (b v) c h w"),
                rearrange(grid, "b v d h w xy -> (b v) (d h) w xy"),
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )
            warped = rearrange(warped, "(b v) c (d h) w -> b v c d h w", b=b, h=h)
            volumes[index] = volumes[index] + (features[:, :, :, None] * warped).sum(2)
    return torch.stack(volumes, 2) / seen.clamp_min(1)[:, :, None], seen / max(v - 1, 1)


def _sampling_grid(
    rays: Float[Tensor, "batch view height width 3"],
    depths: Float[Tensor, "batch view count"],
    extrinsics: Float[Tensor, "batch view 4 4"],
    other_extrinsics: Float[Tensor, "batch view 4 4"],
    other_intrinsics: Float[Tensor, "batch view 3 3"],
) -> tuple[Float[Tensor, "batch view count height width 2"], Float[Tensor, "batch view count height width"]]:
    """Where the other views see each pixel's ray at each depth, in [-1, 1] (2 outside), and whether they do."""
    to_other = other_extrinsics.inverse() @ extrinsics
    project = other_intrinsics @ to_other[..., :3, :3]
    offset = einsum(other_intrinsics, to_other[..., :3, 3], "b v i j, b v j -> b v i")
    direction = einsum(project, rays, "b v i j, b v h w j -> b v h w i")
    points = direction[:, :, None] * depths[..., None, None, None] + offset[:, :, None, None, None]
    z = points[..., 2:]
    xy = points[..., :2] / z.clamp_min(1e-3)
    visible = ((xy > 0) & (xy < 1)).all(-1) & (z[..., 0] > 1e-3)
    return torch.where(visible[..., None], xy * 2 - 1, 2.0), visible.to(rays.dtype)
