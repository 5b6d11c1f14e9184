"""What the columns of a PLY file of Gaussians mean: which there are, and logits and logarithms that are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diff3r_plugin.io.errors import FileError, tell
from diff3r_plugin.io.ply_table import PlyTable
from diff3r_plugin.io.points import SH_DC, colors_of

CURE = "Export the scene again, as the Inria code, gsplat or nerfstudio do."
TIMED = ("trbf_center", "motion_0", "scale_t", "t")
"""Properties of scenes that move."""
COARSE = 0.25
"""Spacing of positions, in a median Gaussian's size, from which they are too coarse to be taken without a word."""


def check_names(path: Path, names: set[str]) -> None:
    """Raise FileError unless these are the properties of Gaussians in three dimensions that stand still."""
    if "filter_3D" in names:
        raise FileError(
            path,
            "it has a 'filter_3D' that belongs to its scales (Mip-Splatting).",
            "Fuse it first, with that project's create_fused_ply.py.",
        )
    timed = next((name for name in TIMED if name in names), None)
    if timed is not None:
        raise FileError(path, f"its Gaussians move (property {timed!r}).", "Export a scene of one moment.")
    if "f_dc_0" not in names and ({"red", "green", "blue"} <= names or {"r", "g", "b"} <= names):
        names = names | {"f_dc_0", "f_dc_1", "f_dc_2"}  # colors instead of harmonics
    if not names & {"opacity", "scale_0", "rot_0"} and names.issuperset("xyz"):
        raise FileError(
            path,
            "it has points, and is no PLY of Gaussians.",
            "Start from them with --points, or export the Gaussians.",
        )
    needed = [*"xyz", "opacity", *(f"f_dc_{i}" for i in range(3)), *(f"scale_{i}" for i in range(3))]
    missing = [name for name in (*needed, *(f"rot_{i}" for i in range(4))) if name not in names]
    if missing == ["scale_2"]:
        raise FileError(path, "it has no 'scale_2': flat Gaussians (2DGS).", "Give a scene of 3D Gaussians.")
    if missing:
        raise FileError(path, f"it has no property {', '.join(map(repr, missing))}: no PLY of Gaussians.", CURE)


def rest_names(path: Path, names: set[str]) -> tuple[str, ...]:
    """The properties of the higher harmonics, in their order; FileError for another number than a degree has."""
    count = sum(name.startswith("f_rest_") for name in names)
    rest = tuple(f"f_rest_{i}" for i in range(count))
    if count not in (0, 9, 24, 45, 72) or not names.issuperset(rest):
        raise FileError(
            path, f"it has {count} properties f_rest_*; degrees 0 to 4 have 0, 9, 24, 45 or 72, counted from 0.", CURE
        )
    return rest


def columns_of(table: PlyTable, names: Sequence[str], dtype: type) -> Any:
    """Some properties side by side, ``[N, len(names)]``."""
    if not names:
        return np.zeros((len(table.vertices), 0), dtype)
    return np.stack([np.asarray(table.vertices[name], dtype) for name in names], -1)


def constant_colors(table: PlyTable) -> Any:
    """``f_dc_*``, or what they would be for the colors that nerfstudio exports on request."""
    if "f_dc_0" in table.names:
        return columns_of(table, ("f_dc_0", "f_dc_1", "f_dc_2"), np.float32)
    colors = colors_of(table)
    assert colors is not None, "_check_names looks for them"
    return ((colors - 0.5) / SH_DC).astype(np.float32)


def opacities_of(path: Path, table: PlyTable, values: Any) -> Any:
    """Opacities of logits; those that are no logits are taken as they are.

    Logits that all lie in [0, 1] would be opacities between 0.5 and 0.73 without exception.
    """
    logits = any("diff3r-plugin" in comment for comment in table.comments)
    if not logits and len(values) and 0 <= values.min() < values.max() <= 1:
        tell(
            path,
            f"its opacities lie in [{values.min():.3g}, {values.max():.3g}]: taken as opacities, not as logits.",
        )
        return values
    return torch.from_numpy(values).sigmoid().numpy()


def standard_deviations(path: Path, values: Any, positions: Any) -> Any:
    """Standard deviations of logarithms; those that are no logarithms are taken as they are.

    As logarithms they would all be above 1, and most of them larger than a tenth of the scene.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        read = np.exp(values)
        if len(values) > 1 and values.min() > 0:
            low, high = np.quantile(positions, (0.05, 0.95), axis=0)
            extent = float(np.linalg.norm(high - low))
            if np.median(read) > 0.1 * extent and np.median(values) < 0.1 * extent:
                tell(path, f"its scales are all positive, {values.min():.3g} and more: taken as they are, not as logs.")
                return values
    return read


def tell_of_coarse_positions(path: Path, table: PlyTable, stored: Any, moved: Any, scales: Any) -> None:
    """Positions that float32 keeps more coarsely than a Gaussian is large: as they are stored, or as they are read."""
    if not len(stored):
        return
    size = float(np.median(scales.max(-1)))
    double = table.vertices.dtype["x"].itemsize > 4
    in_file = 0.0 if double else float(np.spacing(np.float32(np.abs(stored).max())))
    read = float(np.spacing(np.float32(np.abs(moved).max())))
    if in_file > COARSE * size:
        tell(
            path,
            f"its positions, up to {np.abs(stored).max():.3g}, are stored in steps of {in_file:.2g}, and a median "
            f"Gaussian has the size {size:.2g}: export them as doubles, or around another origin.",
        )
    elif read > COARSE * size:
        tell(
            path,
            f"float32 keeps its positions, up to {np.abs(stored).max():.3g}, in steps of {read:.2g}, and a median "
            f"Gaussian has the size {size:.2g}: read it with an origin near it.",
        )


def tell_of_other_elements(path: Path, table: PlyTable) -> None:
    """Elements beside the vertices that change what colors mean."""
    if "color_space" in table.others:
        tell(path, "it names a color space of its own (element 'color_space'), which is not applied.")
