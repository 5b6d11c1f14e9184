"""What ReSplat uses of `pointops` on a CPU: nearest neighbors within the scenes of a batch, and their features.

Points of all scenes lie one after another, ``[N, 3]``; ``offset`` holds where each scene ends, ``[B]``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def knn_query(
    nsample: int, xyz: Tensor, offset: Tensor, new_xyz: Tensor | None = None, new_offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Indices ``[M, nsample]`` (int32) of the points nearest to the new ones, nearest first, and their distances.

    A scene of fewer points than `nsample` fills up with the nearest one.
    """
    if new_xyz is None or new_offset is None:
        new_xyz, new_offset = xyz, offset
    found, apart = [], []
    start = new_start = 0
    for end, new_end in zip(offset.tolist(), new_offset.tolist(), strict=True):
        distances = torch.cdist(new_xyz[new_start:new_end].detach().float(), xyz[start:end].detach().float())
        near, order = distances.topk(min(nsample, end - start), dim=1, largest=False)
        missing = nsample - order.shape[1]
        found.append(start + torch.cat([order, order[:, :1].expand(-1, missing)], 1))
        apart.append(torch.cat([near, near[:, :1].expand(-1, missing)], 1))
        start, new_start = end, new_end
    return torch.cat(found).int(), torch.cat(apart)


def knn_query_and_group(
    feat: Tensor,
    xyz: Tensor,
    offset: Tensor,
    new_xyz: Tensor | None = None,
    new_offset: Tensor | None = None,
    idx: Tensor | None = None,
    nsample: int = 16,
    with_xyz: bool = False,
) -> tuple[Tensor, Tensor]:
    """Features of the nearest points, ``[M, nsample, C]``, and their indices; positions before them on request."""
    if idx is None:
        idx, _ = knn_query(nsample, xyz, offset, new_xyz, new_offset)
    grouped = feat[idx.long()]
    if not with_xyz:
        return grouped, idx
    centers = xyz if new_xyz is None else new_xyz
    return torch.cat([xyz[idx.long()] - centers[:, None], grouped], -1), idx
