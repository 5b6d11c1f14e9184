"""Reading by what a path is: Gaussians from PLY or ``.npz``, posed images from a folder, a JSON or a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.colmap import read_colmap, read_colmap_points
from diff3r_plugin.io.errors import FileError
from diff3r_plugin.io.image_files import find_images
from diff3r_plugin.io.npz import read_npz
from diff3r_plugin.io.ply import read_ply, read_ply_points, read_ply_splats
from diff3r_plugin.io.points import PointCloud
from diff3r_plugin.io.posed_images import PosedImages
from diff3r_plugin.io.re10k_chunk import read_re10k_chunk
from diff3r_plugin.io.splats import Splats
from diff3r_plugin.io.transforms_json import World, content_of, read_transforms_json, transforms_files, way_to
from diff3r_plugin.io.world_frames import COLMAP_APPLIED, moved, nerfstudio_way, points_moved, similarity


def read_gaussians(path: Path | str) -> Gaussians:
    """Gaussians by the file's suffix: ``.ply`` or ``.npz``.

    Raises:
        FileError: for another suffix, or whatever the reader finds.
    """
    path = Path(path)
    return read_ply(path) if _suffix(path) == ".ply" else read_npz(path)


def read_splats(path: Path | str, origin: Sequence[float] | None = None) -> Splats:
    """Gaussians with what their file says of how they are rendered, float32.

    Args:
        path: ``.ply`` or ``.npz``.
        origin: Subtracted from positions in float64, before they become float32.

    Raises:
        FileError: for another suffix, or whatever the reader finds.
    """
    path = Path(path)
    if _suffix(path) == ".ply":
        return read_ply_splats(path, origin)
    gaussians = read_npz(path)
    if origin is not None:
        means = gaussians.means.double() - torch.tensor(origin, dtype=torch.float64)
        gaussians = replace(gaussians, means=means.to(gaussians.dtype))
    return Splats(gaussians.to(torch.float32))


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in (".ply", ".npz"):
        raise FileError(path, f"Gaussians are read from .ply and .npz, not from {path.suffix!r}.", "Give one of these.")
    return path.suffix.lower()


def read_posed_images(path: str | Path, images: Path | str | None = None, world: World | Path = "file") -> PosedImages:
    """Posed images by what lies at the path.

    Args:
        path: A folder with a COLMAP model, a ``transforms.json`` or Blender's ``transforms_train.json``, a ``.json``
            file, or a chunk ``FILE.torch`` or ``FILE.torch:KEY`` (or a split's folder ``FOLDER:KEY``).
        images: Folder of the images, of COLMAP models and JSON files.
        world: "file", "original" or nerfstudio's ``dataparser_transforms.json``; see :func:`read_transforms_json`. A
            COLMAP model's world is the original one.

    Raises:
        FileError: if nothing fits, or whatever the reader finds.
    """
    place, key = _split(str(path))
    if key is not None or place.suffix == ".torch":
        if isinstance(world, Path):
            raise FileError(world, f"it is of no use to the chunk {place}.", "Give the transforms.json it belongs to.")
        return read_re10k_chunk(place, key)
    if place.suffix.lower() == ".json" or transforms_files(place):
        return read_transforms_json(place, images, world)
    if place.is_dir():
        posed = read_colmap(place, images)
        return posed if not isinstance(world, Path) else moved(posed, _nerfstudio_way_of_colmap(world, posed))
    problem = "there is no such file or folder." if not place.exists() else "it is no file of cameras that is known."
    raise FileError(place, problem, "Give a COLMAP folder, a transforms.json, or a chunk FILE.torch[:KEY].")


def read_points(path: str | Path, world: World | Path = "file") -> PointCloud:
    """Points to start from by what lies at the path, in the world that :func:`read_posed_images` brings cameras to.

    Args:
        path: A PLY file of points, a folder with a COLMAP model, or a ``transforms.json`` that names a PLY file
            (``ply_file_path``).
        world: As for the cameras.

    Raises:
        FileError: if there are none, or whatever the reader finds.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    path = Path(path)
    if path.suffix.lower() == ".ply":
        return read_ply_points(path)
    if path.suffix.lower() == ".json" or transforms_files(path):
        file = next(iter(transforms_files(path)))
        content = content_of(file)
        name = content.get("ply_file_path")
        if not isinstance(name, str) or not name or "\0" in name:
            raise FileError(file, "it names no points (ply_file_path).", "Give a PLY file of points (--points FILE).")
        (found,), (problem,) = find_images(file, [name], file.parent)
        if problem is not None:
            raise FileError(file, f"its points (ply_file_path) {name!r} are missing.", "Put the file there.")
        points = read_ply_points(found)
        if world == "file":
            return points
        way = way_to(file, content, world, read_transforms_json(path))
    else:
        points = read_colmap_points(path)
        if not isinstance(world, Path):
            return points
        way = _nerfstudio_way_of_colmap(world, read_colmap(path))
    return PointCloud(points_moved(points.positions, way), points.colors)


def _nerfstudio_way_of_colmap(file: Path, posed: PosedImages) -> Float[Tensor, "4 4"]:
    """nerfstudio reads a model itself, or a ``transforms.json`` made of it, whose file is relative to the model."""
    axes = similarity([list(row) for row in COLMAP_APPLIED], file, "transform")
    return nerfstudio_way(file, [torch.eye(4, dtype=torch.float64), torch.linalg.inv(axes)], posed)


def _split(text: str) -> tuple[Path, str | None]:
    """A path, and the key after its last colon, where there is one and the whole is no path itself."""
    front, colon, key = text.rpartition(":")
    if colon and key and not Path(text).exists() and (front.endswith(".torch") or Path(front).is_dir()):
        return Path(front), key
    return Path(text), None
