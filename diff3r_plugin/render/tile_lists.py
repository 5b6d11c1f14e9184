"""Which splats each tile has to look at, front to back, where gsplat does not sort: kernels list, PyTorch sorts.

Two sorts, of splats by depth and of pairs of a splat and a tile by tile; the host waits once, for the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.kernels.loading.kernel_table import DeviceScene, Systems


def tile_lists(
    launch: Callable[..., None], scene: DeviceScene, depths: Float[Tensor, "I N"], rows: int, columns: int
) -> tuple[Int[Tensor, "I rows columns"], Int[Tensor, " M"]]:
    """Where the list of each tile begins, and the splats of all lists, counted over all images.

    Args:
        launch: Queues a kernel on the splats' device: its name, its first argument and the others.
        scene: The splats, as ``project`` writes them; with a splat goes each tile under its box at one of whose pixels'
            centers its alpha is not skipped.
        depths: Of the splats. Equal ones keep the order of the splats.
        rows, columns: Tiles of an image.
    """
    device, count = depths.device, depths.shape[0] * rows * columns
    nearest_first = depths.flatten().argsort(stable=True)
    ends = torch.empty_like(nearest_first)
    launch("count_tiles", scene, nearest_first.data_ptr(), ends.data_ptr())
    ends.cumsum_(0)
    pairs = int(ends[-1]) if len(ends) else 0
    offsets = torch.empty((depths.shape[0], rows, columns), dtype=torch.int32, device=device)
    if pairs == 0:
        return offsets.zero_(), torch.empty(0, dtype=torch.int32, device=device)
    tiles, splats, flatten_ids = torch.empty((3, pairs), dtype=torch.int32, device=device).unbind(0)
    launch("list_tiles", scene, *(t.data_ptr() for t in (nearest_first, ends, tiles, splats)))
    tiles, order = tiles.sort(stable=True)
    given = (t.data_ptr() for t in (tiles, order, splats, flatten_ids, offsets))
    launch("gather_tiles", Systems(1, pairs), count, *given)
    return offsets, flatten_ids
