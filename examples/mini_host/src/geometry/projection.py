"""Pinhole cameras with normalized intrinsics; pixel centers are at (i + 0.5) / n."""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def sample_image_grid(shape: tuple[int, int], device: torch.device | str = "cpu") -> Float[Tensor, "h w 2"]:
    """Normalized (x, y) of every pixel center."""
    h, w = shape
    y = (torch.arange(h, device=device) + 0.5) / h
    x = (torch.arange(w, device=device) + 0.5) / w
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def homogenize(points: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim_plus_1"]:
    return torch.cat([points, torch.ones_like(points[..., :1])], -1)


def unproject(xy: Float[Tensor, "*#batch 2"], intrinsics: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rays through image points in camera coordinates, with z = 1."""
    return einsum(intrinsics.inverse(), homogenize(xy), "... i j, ... j -> ... i")


def get_fov(intrinsics: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch 2"]:
    """Angles (x, y) between the rays through the middles of opposite image edges, radians."""

    def ray(x: float, y: float) -> Tensor:
        direction = unproject(torch.tensor([x, y], dtype=intrinsics.dtype, device=intrinsics.device), intrinsics)
        return direction / direction.norm(dim=-1, keepdim=True)

    x = (ray(0.0, 0.5) * ray(1.0, 0.5)).sum(-1).acos()
    y = (ray(0.5, 0.0) * ray(0.5, 1.0)).sum(-1).acos()
    return torch.stack([x, y], -1)
