"""Whether Gaussians that should lie on the rays through their pixels do: tells a host from a relative that reorders."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.views import Views

TOLERANCE = 0.03
"""Share of the image's longer side that the median distance may be, beyond two steps of the coarsest grid."""


@torch.no_grad()
def distance_from_pixels(gaussians: Gaussians, views: Views, grids: tuple[PixelGrid, ...]) -> float:
    """Median distance between where Gaussians project and the pixels they stand for, in pixels of the image.

    A shift that all Gaussians of a view share is left out: it comes from principal points beside the middle, which the
    family's decoders do not know. NaN where most Gaussians cannot be projected.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.alignment import PixelGrid
        >>> from diff3r_plugin.plugin.refining.ray_check import distance_from_pixels
        >>> K = torch.tensor([[2.0, 0, 1], [0, 2, 1], [0, 0, 1]]).expand(1, 1, 3, 3)
        >>> views = Views(torch.eye(4).expand(1, 1, 4, 4), K, torch.zeros(1, 1, 3, 2, 2))
        >>> rays = torch.tensor([[[-0.25, -0.25, 1], [0.25, -0.25, 1], [-0.25, 0.25, 1], [0.25, 0.25, 1]]])
        >>> shape = torch.eye(3).expand(1, 4, 3, 3)
        >>> scene = Gaussians(3 * rays, shape, torch.ones(1, 4), torch.zeros(1, 4, 3, 1))
        >>> distance_from_pixels(scene, views, (PixelGrid(),))
        0.0
    """
    height, width = views.image_size
    means, start, distances = gaussians.means.double(), 0, []
    for grid in grids:
        rows, columns = grid.size(height, width)
        count = grid.count(views.num_views, height, width)
        part = means[:, start : start + count].unflatten(1, (views.num_views, rows, columns, grid.per_pixel))
        start += count
        pixels = _projected(part, views)
        steps = (torch.arange(n, device=means.device) + 0.5 for n in (rows, columns))
        y, x = torch.meshgrid(*steps, indexing="ij")
        offsets = pixels - grid.stride * torch.stack([x, y], -1)[:, :, None]
        offsets = offsets.flatten(2, 4)  # B V n 2
        distances.append((offsets - offsets.nanmedian(2, keepdim=True).values).norm(dim=-1).flatten())
    every = torch.cat(distances)
    return float("nan") if every.isnan().float().mean() > 0.5 else float(every.nanmedian())


def tolerance(views: Views, grids: tuple[PixelGrid, ...]) -> float:
    """The largest median distance, in pixels, that sub-pixel offsets can explain."""
    return TOLERANCE * max(views.image_size) + 2 * max(grid.stride for grid in grids)


def _projected(means: Tensor, views: Views) -> Tensor:
    """Pixel coordinates of points ``[B, V, ..., 3]`` in their views; NaN behind the camera."""
    camera = views.world_to_camera.double()
    extra = (slice(None), slice(None), *(None,) * (means.ndim - 3))
    points = torch.einsum("bvij,bv...j->bv...i", camera[..., :3, :3], means) + camera[..., :3, 3][extra]
    depth = torch.where(points[..., 2:] > 0, points[..., 2:], torch.nan)
    focal = views.intrinsics.double().diagonal(dim1=-2, dim2=-1)[..., :2][extra]
    return focal * points[..., :2] / depth + views.intrinsics.double()[..., :2, 2][extra]
