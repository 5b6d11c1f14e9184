"""Gaussians as PLY files, in the layout that the Inria code, gsplat and SIBR's viewers share.

Each vertex is a Gaussian: ``x y z``, ``nx ny nz`` (zero), ``f_dc_0..2`` and ``f_rest_*`` (spherical harmonics; all
higher coefficients of red, then of green, then of blue), ``opacity`` (logit), ``scale_0..2`` (natural logarithms) and
``rot_0..3`` (wxyz, need not be normalized).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.errors import FileError, reading, require
from diff3r_plugin.io.quaternions import scales_and_quats

KIND = "a PLY file of Gaussians"
CURE = "Export the scene again, as the Inria code, gsplat or nerfstudio do."
LARGEST_HEADER = 1 << 16
OPACITY_MARGIN = 1e-6
"""Opacities are written no nearer to 0 and 1 than this: a logit must be finite."""


def read_ply(path: Path | str) -> Gaussians:
    """The scene in a PLY file of Gaussians; binary or ASCII.

    Logits become opacities, logarithms become standard deviations; quaternions stay as they are.

    Args:
        path: A file with ``x y z``, ``f_dc_*``, ``opacity``, ``scale_0..2``, ``rot_0..3``, and ``f_rest_*`` for degrees
            1 to 4; other properties are not looked at.

    Returns:
        One scene of scales and quaternions, float32.

    Raises:
        FileError: if the file is damaged or something else, or a value is not finite.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.

    Example:
        >>> import tempfile, torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.io import read_ply, write_ply
        >>> scales, upright = torch.full((1, 5, 3), 0.1), torch.tensor([1.0, 0, 0, 0]).expand(1, 5, 4)
        >>> opacities, harmonics = torch.full((1, 5), 0.5), torch.rand(1, 5, 3, 4)
        >>> g = Gaussians.from_scales(torch.rand(1, 5, 3), scales, upright, opacities, harmonics)
        >>> path = Path(tempfile.mkdtemp()) / "scene.ply"
        >>> write_ply(path, g)
        >>> read_ply(path).sh_degree, torch.allclose(read_ply(path).scales, g.scales)
        (1, True)
    """
    path = Path(path)
    with reading(path, KIND, CURE):
        vertices = _vertices(path)
        names = set(vertices.dtype.names or ())
        _check_names(path, names)
        rest = _rest_names(path, names)
        columns = {
            "means": ("x", "y", "z"),
            "scales": ("scale_0", "scale_1", "scale_2"),
            "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
            "opacities": ("opacity",),
            "dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
            "rest": rest,
        }
        values = {
            name: np.stack([np.asarray(vertices[c], np.float32) for c in of], -1)
            if of
            else np.zeros((len(vertices), 0), np.float32)
            for name, of in columns.items()
        }
        with np.errstate(over="ignore"):
            values["scales"] = np.exp(values["scales"])
        bad = sum(~np.isfinite(v).all(-1) for v in values.values() if v.shape[-1])
        if np.any(bad):
            raise FileError(
                path,
                f"{np.count_nonzero(bad)} of {len(vertices)} Gaussians have values that are not finite.",
                "Remove them (gsplat's export_splats leaves them out).",
            )
        tensors = {name: torch.from_numpy(v)[None] for name, v in values.items()}
        harmonics = torch.cat([tensors["dc"][..., None], tensors["rest"].unflatten(-1, (3, len(rest) // 3))], -1)
        return Gaussians.from_scales(
            tensors["means"], tensors["scales"], tensors["quats"], tensors["opacities"][..., 0].sigmoid(), harmonics
        )


def write_ply(path: Path | str, gaussians: Gaussians) -> None:
    """Write one scene as binary PLY, in one go; needs no further package.

    Args:
        path: The file; its folders are made.
        gaussians: One scene, with covariances or with scales and quaternions. Opacities of 0 and 1 are written as
            1e-6 away from that, scales of 0 as 1e-10.

    Raises:
        ValueError: for a batch of several scenes.
    """
    if gaussians.batch_size != 1:
        raise ValueError(
            f"A PLY file holds one scene, got {gaussians.batch_size}: write gaussians.map(lambda t: t[i : i + 1]) each."
        )
    g = gaussians.detach().map(lambda t: t[0].double().cpu()[None])
    scales, quats = scales_and_quats(g)
    harmonics = g.harmonics[0]
    columns: list[tuple[str, Float[Tensor, " N"]]] = [
        *zip("xyz", g.means[0].unbind(-1), strict=True),
        *((name, torch.zeros(g.num_gaussians)) for name in ("nx", "ny", "nz")),
        *((f"f_dc_{i}", harmonics[:, i, 0]) for i in range(3)),
        *((f"f_rest_{i}", column) for i, column in enumerate(harmonics[..., 1:].flatten(1).unbind(-1))),
        ("opacity", torch.logit(g.opacities[0], eps=OPACITY_MARGIN)),
        *((f"scale_{i}", column) for i, column in enumerate(scales.clamp_min(1e-10).log().unbind(-1))),
        *((f"rot_{i}", column) for i, column in enumerate(quats.unbind(-1))),
    ]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {g.num_gaussians}"]
    header += [*(f"property float {name}" for name, _ in columns), "end_header", ""]
    table = torch.stack([column.float() for _, column in columns], -1).numpy().astype("<f4")
    with atomic_write(path) as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(table.tobytes())


def _vertices(path: Path) -> Any:
    """The table of vertices as a structured array; nothing is allocated that the file cannot hold."""
    with open(path, "rb") as file:
        head = file.read(LARGEST_HEADER)
    if not head.startswith(b"ply"):
        raise FileError(path, "it does not begin with 'ply': it is no PLY file.", CURE)
    end = head.find(b"end_header")
    if end < 0:
        raise FileError(path, "its header has no end; the file is truncated or damaged.", "Copy it again.")
    size, header = os.path.getsize(path), head[:end]
    for name, count in re.findall(rb"^element[ \t]+(\S+)[ \t]+(\S+)", header, re.MULTILINE):
        if not count.isdigit() or int(count) > size:
            raise FileError(
                path,
                f"its header promises {count.decode('ascii', 'replace')} of {name.decode('ascii', 'replace')!r}, and "
                f"the file has {size} bytes: it is truncated or damaged.",
                "Copy it again.",
            )
    plyfile = require("plyfile", "Reading PLY files")
    with open(path, "rb") as file:
        data = plyfile.PlyData.read(file)
    if "vertex" not in data:
        raise FileError(path, "it has no vertices.", CURE)
    if "chunk" in data:
        raise FileError(path, "it is a compressed PLY.", "Export it uncompressed, with float properties.")
    return data["vertex"].data


def _check_names(path: Path, names: set[str]) -> None:
    if "filter_3D" in names:
        raise FileError(
            path,
            "it has a 'filter_3D' that belongs to its scales (Mip-Splatting).",
            "Fuse it first, with that project's create_fused_ply.py.",
        )
    needed = [*"xyz", "opacity", *(f"f_dc_{i}" for i in range(3)), *(f"scale_{i}" for i in range(3))]
    missing = [name for name in (*needed, *(f"rot_{i}" for i in range(4))) if name not in names]
    if missing == ["scale_2"]:
        raise FileError(path, "it has no 'scale_2': flat Gaussians (2DGS).", "Give a scene of 3D Gaussians.")
    if missing:
        raise FileError(path, f"it has no property {', '.join(map(repr, missing))}: no PLY of Gaussians.", CURE)


def _rest_names(path: Path, names: set[str]) -> tuple[str, ...]:
    count = sum(name.startswith("f_rest_") for name in names)
    rest = tuple(f"f_rest_{i}" for i in range(count))
    if count not in (0, 9, 24, 45, 72) or not names.issuperset(rest):
        raise FileError(
            path, f"it has {count} properties f_rest_*; degrees 0 to 4 have 0, 9, 24, 45 or 72, counted from 0.", CURE
        )
    return rest
