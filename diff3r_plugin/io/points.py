"""A cloud of colored points, and the Gaussians that a refinement can start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.errors import require
from diff3r_plugin.io.ply_table import PlyTable

SH_DC = 0.28209479177387814
"""The constant basis function: color = SH_DC · coefficient + 0.5."""
NEIGHBORS = 3
OPACITY = 0.1


@dataclass(frozen=True, eq=False)
class PointCloud:
    """M points.

    Args:
        positions: ``[M, 3]``, world units; float64 where they may lie far from the origin.
        colors: ``[M, 3]``, RGB in [0, 1].

    Raises:
        ValueError: if the shapes disagree.
    """

    positions: Float[Tensor, "M 3"]
    colors: Float[Tensor, "M 3"]

    def __post_init__(self) -> None:
        if self.positions.shape != self.colors.shape or self.positions.shape[1:] != (3,):
            raise ValueError(
                f"positions and colors must both be [M, 3], got {list(self.positions.shape)} and "
                f"{list(self.colors.shape)}."
            )


def gaussians_from_points(points: PointCloud, sh_degree: int = 1, opacity: float = OPACITY) -> Gaussians:
    """One round Gaussian a point, as Gaussian splatting is initialized from structure from motion.

    Its standard deviation is the mean distance to the three nearest other points, its color that of the point from all
    sides. A point whose neighbors all lie in the same place takes the median of the others' sizes.

    Args:
        points: At least four points.
        sh_degree: Degree of the spherical harmonics, 0 to 4; coefficients above the constant one are zero.
        opacity: Of all of them, in (0, 1).

    Raises:
        ValueError: for fewer points.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io import PointCloud, gaussians_from_points
        >>> corners = torch.cartesian_prod(*3 * [torch.tensor([0.0, 2.0])])
        >>> gaussians_from_points(PointCloud(corners, torch.full((8, 3), 0.5))).scales[0, 0]
        tensor([2., 2., 2.])
    """
    count = len(points.positions)
    if count <= NEIGHBORS:
        raise ValueError(f"Gaussians from points need more than {NEIGHBORS} points, got {count}.")
    spatial = require("scipy.spatial", "Starting from points")
    positions = points.positions.double().numpy()
    distances, _ = spatial.cKDTree(positions).query(positions, k=NEIGHBORS + 1)
    sizes = torch.from_numpy(distances[:, 1:]).mean(-1).float()
    if not (sizes > 0).any():
        raise ValueError("Gaussians from points need points in different places; these all coincide.")
    sizes = torch.where(sizes > 0, sizes, sizes[sizes > 0].median())
    harmonics = torch.zeros(count, 3, (sh_degree + 1) ** 2)
    harmonics[..., 0] = (points.colors - 0.5) / SH_DC
    upright = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians.from_scales(
        points.positions.float()[None],
        sizes[:, None].expand(count, 3).clone()[None],
        upright.clone()[None],
        torch.full((1, count), opacity),
        harmonics[None],
    )


def colors_of(table: PlyTable) -> Any:
    """``red green blue`` (or ``r g b``) of a PLY table, ``[M, 3]`` in [0, 1]; None where it has none."""
    names = next((n for n in (("red", "green", "blue"), ("r", "g", "b")) if table.names.issuperset(n)), None)
    if names is None:
        return None
    kind = table.vertices.dtype[names[0]]
    raw = np.stack([np.asarray(table.vertices[name], np.float64) for name in names], -1)
    if kind.kind in "ui":
        return raw / np.iinfo(kind).max
    return raw / 255 if raw.size and raw.max() > 1 else raw
