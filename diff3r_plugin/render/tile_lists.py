"""Which splats each tile of 16 x 16 pixels has to look at, front to back: gsplat's two functions, in PyTorch alone.

For devices where gsplat cannot be used. Two sorts, of splats by depth and of pairs of a splat and a tile by tile,
on whatever device the tensors are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def isect_tiles(
    means2d: Float[Tensor, "I N 2"],
    radii: Int[Tensor, "I N 2"],
    depths: Float[Tensor, "I N"],
    tile_size: int,
    tile_width: int,
    tile_height: int,
) -> tuple[Int[Tensor, "I N"], Int[Tensor, "M"], Int[Tensor, "M"]]:
    """Pairs of a splat and a tile that its box touches, by tile and then by depth; arguments as gsplat's.

    Args:
        means2d: Centers, px.
        radii: Half sides of the boxes, px; 0 for what is not rendered.
        depths: What decides the order within a tile; equal ones keep the order of the splats.
        tile_size: Side of a tile, px.
        tile_width, tile_height: Tiles across and down.

    Returns:
        Tiles of each splat; the tile of each pair, counted over all images; its splat, counted over all images.
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
    image = splats // depths.shape[1] if depths.shape[1] else splats
    tiles = (image * tile_height + top + within // across) * tile_width + left + within % across
    tiles, order = tiles.sort(stable=True)
    return counts, tiles, splats[order].int()


def isect_offset_encode(
    isect_ids: Int[Tensor, "M"], n_images: int, tile_width: int, tile_height: int
) -> Int[Tensor, "I tile_height tile_width"]:
    """Where the list of each tile begins."""
    tiles = torch.arange(n_images * tile_height * tile_width, device=isect_ids.device)
    return torch.searchsorted(isect_ids, tiles, out_int32=True).reshape(n_images, tile_height, tile_width)
