"""Reading by what a path is: Gaussians from PLY or ``.npz``, posed images from a folder, a JSON or a chunk."""

from __future__ import annotations

from pathlib import Path

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.colmap import read_colmap
from diff3r_plugin.io.errors import FileError
from diff3r_plugin.io.npz import read_npz
from diff3r_plugin.io.ply import read_ply
from diff3r_plugin.io.posed_images import PosedImages
from diff3r_plugin.io.re10k_chunk import read_re10k_chunk
from diff3r_plugin.io.transforms_json import World, read_transforms_json


def read_gaussians(path: Path | str) -> Gaussians:
    """Gaussians by the file's suffix: ``.ply`` or ``.npz``.

    Raises:
        FileError: for another suffix, or whatever the reader finds.
    """
    path = Path(path)
    readers = {".ply": read_ply, ".npz": read_npz}
    if path.suffix.lower() not in readers:
        raise FileError(path, f"Gaussians are read from .ply and .npz, not from {path.suffix!r}.", "Give one of these.")
    return readers[path.suffix.lower()](path)


def read_posed_images(path: str | Path, images: Path | str | None = None, world: World = "file") -> PosedImages:
    """Posed images by what lies at the path.

    Args:
        path: A folder with a COLMAP model or a ``transforms.json``, a ``.json`` file, or a chunk ``FILE.torch`` or
            ``FILE.torch:KEY`` (or a split's folder ``FOLDER:KEY``).
        images: Folder of the images, of COLMAP models and JSON files.
        world: See :func:`read_transforms_json`.

    Raises:
        FileError: if nothing fits, or whatever the reader finds.
    """
    place, key = _split(str(path))
    if key is not None or place.suffix == ".torch":
        return read_re10k_chunk(place, key)
    if place.suffix == ".json" or (place / "transforms.json").is_file():
        return read_transforms_json(place, images, world)
    if place.is_dir():
        return read_colmap(place, images)
    problem = "there is no such file or folder." if not place.exists() else "it is no file of cameras that is known."
    raise FileError(place, problem, "Give a COLMAP folder, a transforms.json, or a chunk FILE.torch[:KEY].")


def _split(text: str) -> tuple[Path, str | None]:
    """A path, and the key after its last colon, where there is one and the whole is no path itself."""
    front, colon, key = text.rpartition(":")
    if colon and key and not Path(text).exists() and (front.endswith(".torch") or Path(front).is_dir()):
        return Path(front), key
    return Path(text), None
