"""The table of vertices of a PLY file and what its header says, with nothing allocated that the file cannot hold."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diff3r_plugin.io.errors import FileError, require

LARGEST_HEADER = 1 << 16


@dataclass(frozen=True, eq=False)
class PlyTable:
    """What a PLY file holds.

    Args:
        vertices: A structured array.
        comments: Of the header, without the word "comment".
        others: Names of the elements beside the vertices.
    """

    vertices: Any
    comments: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """Properties of a vertex."""
        return set(self.vertices.dtype.names or ())


def read_table(path: Path, cure: str) -> PlyTable:
    """Read a file, binary or ASCII.

    Raises:
        FileError: if it is damaged or no PLY file.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    with open(path, "rb") as file:
        head = file.read(LARGEST_HEADER)
    if not head.startswith(b"ply"):
        raise FileError(path, "it does not begin with 'ply': it is no PLY file.", cure)
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
        raise FileError(path, "it has no vertices.", cure)
    if "chunk" in data:
        raise FileError(
            path, "it is a compressed PLY.", "Export it uncompressed ('splat-transform compressed.ply scene.ply')."
        )
    comments = re.findall(rb"^(?:comment|obj_info)[ \t]+(.*?)[ \t\r]*$", header, re.MULTILINE)
    return PlyTable(
        data["vertex"].data,
        tuple(comment.decode("utf-8", "replace").strip() for comment in comments),
        tuple(element.name for element in data.elements if element.name != "vertex"),
    )
