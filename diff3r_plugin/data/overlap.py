"""How much of a scene two cameras share, frames in an order of neighbors, and context views at a given overlap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.io import PosedImages
from diff3r_plugin.io.world_frames import camera_centers

POINTS = 4000
"""Points that are looked at, at most."""
ALIKE = 0.70710678
"""Cosine of the angle between two views of a point up to which it looks alike."""
GRID = 8
"""Rays along each side of an image, where there are no points."""
JUMP = 0.6
"""Overlap of neighbors, in that of the chain of nearest frames, below which the order of the names is not kept."""


def stand_in_points(posed: PosedImages) -> Float[Tensor, "M 3"]:
    """Points on the rays of the cameras, as far away as the place that they look at: for captures without points."""
    centers = camera_centers(posed)
    axes = posed.world_to_camera[:, 2, :3].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    focus = torch.linalg.lstsq(across.sum(0), (across @ centers[..., None]).sum(0)).solution[:, 0]
    depth = ((focus - centers) * axes).sum(-1)
    spread = float((centers - centers.mean(0)).norm(dim=-1).max())
    depth = torch.where(depth > 0.1 * spread, depth, max(2 * spread, 1e-6))
    points = []
    for number, (height, width) in enumerate(posed.sizes):
        rows, columns = torch.meshgrid(
            (torch.arange(GRID, dtype=torch.float64) + 0.5) * height / GRID,
            (torch.arange(GRID, dtype=torch.float64) + 0.5) * width / GRID,
            indexing="ij",
        )
        matrix, pose = posed.intrinsics[number].double(), posed.world_to_camera[number].double()
        rays = torch.stack([(columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1]], -1)
        there = torch.cat([rays, torch.ones_like(rays[..., :1])], -1).reshape(-1, 3) * depth[number]
        points.append(there @ pose[:3, :3] + centers[number])
    return torch.cat(points)


@dataclass(frozen=True, eq=False)
class Seen:
    """What frames see of some points.

    Args:
        inside: Whether a point lies in an image, occlusion not counted.
        depth: Of a point before a camera.
        directions: From a camera to a point, unit vectors.
    """

    inside: Bool[Tensor, "F M"]
    depth: Float[Tensor, "F M"]
    directions: Float[Tensor, "F M 3"]


def visibility(posed: PosedImages, points: Float[Tensor, "M 3"]) -> Seen:
    """What each frame sees of some of the points."""
    if len(points) > POINTS:
        points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:POINTS]]
    points, poses = points.double(), posed.world_to_camera.double()
    there = points @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
    depth = there[..., 2]
    pixels = there[..., :2] / depth.clamp_min(1e-9)[..., None]
    matrices = posed.intrinsics.double()
    pixels = pixels * matrices.diagonal(dim1=1, dim2=2)[:, None, :2] + matrices[:, None, :2, 2]
    extent = torch.tensor([(width, height) for height, width in posed.sizes], dtype=torch.float64)[:, None]
    inside = (depth > 0) & ((pixels >= 0) & (pixels < extent)).all(-1)
    directions = points[None] - camera_centers(posed)[:, None]
    return Seen(inside, depth, torch.nn.functional.normalize(directions, dim=-1).float())


def overlaps(seen: Seen) -> Float[Tensor, "F F"]:
    """Share of the points in one image that the other sees, too; the smaller of both directions.

    A point that is seen from directions more than 45° apart is not the same to both: from the other side of an object
    it is hidden as a rule.

    Example:
        >>> import torch
        >>> from diff3r_plugin.data.overlap import Seen, overlaps
        >>> inside = torch.tensor([[True, True, False, False], [True, True, True, True]])
        >>> ahead = torch.tensor([0.0, 0.0, 1.0]).expand(2, 4, 3)
        >>> overlaps(Seen(inside, torch.ones(2, 4), ahead))
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    rows = []
    for inside, directions in zip(seen.inside, seen.directions, strict=True):
        alike = (seen.directions * directions).sum(-1) > ALIKE
        rows.append((seen.inside & inside & alike).sum(-1).float())
    both, each = torch.stack(rows), seen.inside.float().sum(-1)
    return both / torch.maximum(each[:, None], each[None]).clamp_min(1)


def chain(shared: Float[Tensor, "F F"], distance: Float[Tensor, "F F"]) -> list[int]:
    """Frames by name where neighbors see the same, else from one end along the nearest ones.

    Args:
        shared: Overlap of each two frames, in the order of the names.
        distance: Of their cameras.
    """
    count = len(shared)
    if count < 3:
        return list(range(count))
    reach = distance / distance.max().clamp_min(1e-12) + (1 - shared)
    start = int(reach[int(reach.mean(0).argmax())].argmax())
    order, left = [start], set(range(count)) - {start}
    while left:
        order.append(min(left, key=lambda j: float(reach[order[-1], j])))
        left.remove(order[-1])
    by_name = float(shared.diagonal(1).mean())
    by_chain = float(torch.stack([shared[i, j] for i, j in pairwise(order)]).mean())
    return list(range(count)) if by_name >= JUMP * by_chain else order


def context_pair(shared: Float[Tensor, "F F"], wanted: float, between: int) -> tuple[int, int] | None:
    """Two frames whose overlap is nearest to the wanted one, with so many frames between them; None without any.

    Of pairs that are about as near, the one whose middle is nearest to the middle of the capture.
    """
    count = len(shared)
    pairs = [(a, b) for a in range(count) for b in range(a + between + 1, count)]
    if not pairs:
        return None
    return min(pairs, key=lambda p: (round(abs(float(shared[p]) - wanted), 2), abs(p[0] + p[1] - count + 1)))


def targets_between(first: int, last: int, count: int) -> list[int]:
    """Frames spread evenly between two others.

    Example:
        >>> from diff3r_plugin.data.overlap import targets_between
        >>> targets_between(0, 8, 3)
        [2, 4, 6]
    """
    return sorted({int(v) for v in np.linspace(first, last, count + 2)[1:-1].round()})


def depth_range(seen: Seen) -> tuple[float, float, float] | None:
    """The 1 %, 50 % and 99 % depths of points in the images that they are seen in; None where none is."""
    found = seen.depth[seen.inside].sort().values.tolist()
    if not found:
        return None
    low, middle, high = (found[round(q * (len(found) - 1))] for q in (0.01, 0.5, 0.99))
    return low, middle, high
