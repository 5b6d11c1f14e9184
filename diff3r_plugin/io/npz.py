"""Gaussians as one ``.npz``: the numbers as they are, by name, in any precision."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.errors import FileError, reading

FORMAT, VERSION = "diff3r gaussians", 1
FIELDS = ("means", "covariances", "opacities", "harmonics", "scales", "quats")
KIND, CURE = "Gaussians in .npz", "Write it again with diff3r_plugin.io.write_npz."


def write_npz(path: Path | str, gaussians: Gaussians) -> None:
    """Write a batch of scenes, in one go; :func:`read_npz` gives back the same numbers.

    Args:
        path: The file; its folders are made.
        gaussians: Any number of scenes, in the form they have (activated: standard deviations, opacities in [0, 1]).
    """
    arrays = {name: value.detach().cpu().numpy() for name in FIELDS if (value := getattr(gaussians, name)) is not None}
    with atomic_write(path) as file:
        np.savez(file, format=np.array(FORMAT), version=np.array(VERSION), **arrays)  # type: ignore[arg-type]


def read_npz(path: Path | str) -> Gaussians:
    """The scenes that :func:`write_npz` wrote.

    Raises:
        FileError: if the file is damaged, of a later version, or something else.

    Example:
        >>> import tempfile, torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.io import read_npz, write_npz
        >>> covariances = torch.eye(3).expand(1, 5, 3, 3)
        >>> g = Gaussians(torch.rand(1, 5, 3), covariances, torch.full((1, 5), 0.5), torch.zeros(1, 5, 3, 1))
        >>> path = Path(tempfile.mkdtemp()) / "scene.npz"
        >>> write_npz(path, g)
        >>> torch.equal(read_npz(path).means, g.means)
        True
    """
    path = Path(path)
    with reading(path, KIND, CURE):
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            if "format" not in file or str(file["format"]) != FORMAT:
                raise FileError(path, "it does not hold Gaussians of this package.", CURE)
            if int(file["version"]) != VERSION:
                raise FileError(
                    path,
                    f"it has version {int(file['version'])} of the format, this package reads {VERSION}.",
                    "Update the package, or write the file with this one.",
                )
            tensors = {name: torch.from_numpy(file[name]) for name in FIELDS if name in file}
        dtypes = {tensor.dtype for tensor in tensors.values()}
        if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
            raise FileError(path, f"its arrays must be of one float type, got {sorted(map(str, dtypes))}.", CURE)
        bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if bad:
            raise FileError(path, f"{bad[0]} has values that are not finite.", "Remove those Gaussians.")
        missing = [name for name in ("means", "opacities", "harmonics") if name not in tensors]
        if missing:
            raise FileError(path, f"it has no {missing[0]}.", CURE)
        optional = {name: tensors.get(name) for name in ("covariances", "scales", "quats")}
        return Gaussians(
            means=tensors["means"], opacities=tensors["opacities"], harmonics=tensors["harmonics"], **optional
        )


def _check_sizes(path: Path) -> None:
    """Every array is as large as its header says, before anything is allocated for it."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise FileError(path, f"{entry.filename!r} in it is compressed.", CURE)
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = read_header(file)
                count = 1
                for length in shape:
                    count *= int(length)
                if dtype.hasobject or file.tell() + count * dtype.itemsize != entry.file_size:
                    raise FileError(path, f"{entry.filename!r} in it does not have the size that it says.", CURE)
