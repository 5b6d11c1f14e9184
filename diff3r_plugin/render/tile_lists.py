"""Which splats each tile has to look at, front to back: gsplat's two functions, in PyTorch alone.

For devices where gsplat cannot be used. Two sorts, of splats by depth and of pairs of a splat and a tile by tile,
on whatever device the tensors are.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diff3r_plugin.render.semantics import ALPHA_SKIP

SLACK = 1e-3
"""By which an ellipse may be larger than it is, so that rounding drops nothing that shows; of its exponent."""


def isect_tiles(
    means2d: Float[Tensor, "I N 2"],
    radii: Int[Tensor, "I N 2"],
    depths: Float[Tensor, "I N"],
    tile_size: int,
    tile_width: int,
    tile_height: int,
    conics: Float[Tensor, "I N 3"],
    opacities: Float[Tensor, "I N"],
) -> tuple[Int[Tensor, "I N"], Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Pairs of a splat and a tile where it shows, by tile and then by depth; arguments as those of gsplat 1.6.

    Args:
        means2d: Centers, px.
        radii: Half sides of the boxes, px; 0 for what is not rendered.
        depths: What decides the order within a tile; equal ones keep the order of the splats.
        tile_size: Side of a tile, px.
        tile_width, tile_height: Tiles across and down.
        conics: Inverse covariances in the image: xx, xy, yy, px⁻².
        opacities: Of the splats, in [0, 1].

    Returns:
        Tiles under the box of each splat; the tile of each pair and its splat, both counted over all images.
    """
    low, high = [], []
    for axis, limit in enumerate((tile_width, tile_height)):
        low.append(((means2d[..., axis] - radii[..., axis]) / tile_size).floor().long().clamp(0, limit))
        high.append(((means2d[..., axis] + radii[..., axis]) / tile_size).ceil().long().clamp(0, limit))
    sides = [torch.where((radii > 0).all(-1), a - b, 0) for a, b in zip(high, low, strict=True)]
    counts = sides[0] * sides[1]
    nearest_first = depths.flatten().argsort(stable=True)
    repeats = counts.flatten()[nearest_first]
    splats = nearest_first.repeat_interleave(repeats)
    within = torch.arange(splats.numel(), device=splats.device) - (repeats.cumsum(0) - repeats).repeat_interleave(
        repeats
    )
    across, left, top = (t.flatten()[splats] for t in (sides[0], low[0], low[1]))
    column, row = left + within % across, top + within // across
    shows = _reaches(means2d.flatten(0, 1), conics.flatten(0, 1), opacities.flatten(), splats, column, row, tile_size)
    splats, column, row = splats[shows], column[shows], row[shows]
    image = splats // depths.shape[1] if depths.shape[1] else splats
    tiles = (image * tile_height + row) * tile_width + column
    tiles, order = tiles.sort(stable=True)
    return counts, tiles, splats[order].int()


def _reaches(
    means2d: Float[Tensor, "S 2"],
    conics: Float[Tensor, "S 3"],
    opacities: Float[Tensor, " S"],
    splats: Int[Tensor, " M"],
    column: Int[Tensor, " M"],
    row: Int[Tensor, " M"],
    tile_size: int,
) -> Bool[Tensor, " M"]:
    """Whether the ellipse of a splat, outside of which its alpha is skipped, reaches a pixel's center in a tile.

    The exponent is convex: between the centers of a tile's corner pixels its least value is 0 if the splat's own center
    is there, and on one of the four sides otherwise.
    """
    a, b, c = conics[splats].unbind(-1)
    center = means2d[splats]
    sides = []
    for axis, tile in enumerate((column, row)):
        first = tile * tile_size + 0.5 - center[:, axis]
        sides.append((first, first + (tile_size - 1)))
    (left, right), (top, bottom) = sides
    inside = (left <= 0) & (right >= 0) & (top <= 0) & (bottom >= 0)
    least = torch.full_like(a, float("inf"))
    for x in (left, right):
        y = (-b * x / c).maximum(top).minimum(bottom)
        least = least.minimum(0.5 * (a * x * x + c * y * y) + b * x * y)
    for y in (top, bottom):
        x = (-b * y / a).maximum(left).minimum(right)
        least = least.minimum(0.5 * (a * x * x + c * y * y) + b * x * y)
    reach = (opacities[splats] / ALPHA_SKIP).log()
    return inside | (least <= reach * (1 + SLACK) + SLACK)


def isect_offset_encode(
    isect_ids: Int[Tensor, " M"], n_images: int, tile_width: int, tile_height: int
) -> Int[Tensor, "I tile_height tile_width"]:
    """Where the list of each tile begins."""
    tiles = torch.arange(n_images * tile_height * tile_width, device=isect_ids.device)
    return torch.searchsorted(isect_ids, tiles, out_int32=True).reshape(n_images, tile_height, tile_width)
