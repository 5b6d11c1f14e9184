"""Posed images and points of a COLMAP sparse model, binary or text.

An own reader, with bounds: ``pycolmap`` gives no error for a damaged model but does not come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.io import colmap_binary, colmap_text
from diff3r_plugin.io.colmap_lenses import pinhole_and_lens
from diff3r_plugin.io.colmap_records import ColmapCamera, ColmapImage
from diff3r_plugin.io.errors import FileError, reading, tell
from diff3r_plugin.io.image_files import find_images, printable
from diff3r_plugin.io.points import PointCloud
from diff3r_plugin.io.posed_images import Mask, PosedImages

KIND, CURE = "a COLMAP model", "Give the folder with cameras, images and points3D (.bin or .txt), or the one above it."
READERS = {".bin": colmap_binary, ".txt": colmap_text}
PLACES = ("", "sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "dense/sparse", "dense/0/sparse",
          "undistorted/sparse", "distorted/sparse/0")  # fmt: skip
"""Where below a given folder models are looked for: COLMAP's, nerfstudio's and 3D Gaussian splatting's layouts."""
IMAGE_FOLDERS = ("images", "input")
"""Names of the folder of images beside a model; "input" is that of 3D Gaussian splatting's unconverted data."""


def read_colmap(path: Path | str, images: Path | str | None = None) -> PosedImages:
    """The registered images of a COLMAP model with their cameras, by name.

    COLMAP's conventions are this package's: OpenCV axes, world-to-camera, the first pixel's center at (0.5, 0.5).
    Masks in a folder ``masks`` beside the images (``masks/NAME.png``, as for COLMAP's feature extraction) become pixel
    weights. Which file is the image of a name: :mod:`~diff3r_plugin.io.image_files`.

    Args:
        path: The model's folder, or one that has it in ``sparse/0``, ``colmap/sparse/0`` and so on.
        images: Folder of the images; by default the ``images`` beside the model.

    Raises:
        FileError: if a file is damaged. Images that are missing are told of where they are asked for, and lenses that
            distort are kept; see :meth:`PosedImages.require_images` and :meth:`PosedImages.undistorted`.
    """
    folder = model_folder(path)
    cameras_file, images_file = _file(folder, "cameras"), _file(folder, "images")
    with reading(cameras_file, KIND, CURE):
        cameras = _reader(cameras_file).read_cameras(cameras_file)
        optics = {number: pinhole_and_lens(cameras_file, number, camera) for number, camera in cameras.items()}
    with reading(images_file, KIND, CURE):
        found = sorted(_reader(images_file).read_images(images_file), key=lambda image: image.name)
        poses = _poses(images_file, found, cameras)
        names = [image.name for image in found]
        place = images_folder(path, folder) if images is None else Path(images)
        files, problems = find_images(images_file, names, place, None if images is None else place)
        return PosedImages(
            folder,
            tuple(map(printable, names)),
            tuple(files),
            poses,
            torch.stack([optics[image.camera][0] for image in found]),
            tuple((cameras[image.camera].height, cameras[image.camera].width) for image in found),
            tuple(optics[image.camera][1] for image in found),
            masks=_masks(place, names),
            problems=tuple(problems),
        )


def read_colmap_points(path: Path | str) -> PointCloud:
    """The triangulated points of a COLMAP model with their colors, in float64.

    Raises:
        FileError: if the file is damaged, or not there.
    """
    file = _file(model_folder(path), "points3D")
    with reading(file, KIND, CURE):
        found = _reader(file).read_points(file)
        positions = torch.tensor([point.position for point in found], dtype=torch.float64).reshape(-1, 3)
        colors = torch.tensor([point.color for point in found], dtype=torch.float64).reshape(-1, 3) / 255
        if not positions.float().isfinite().all():
            raise FileError(file, "a point is not finite in float32.", CURE)
        return PointCloud(positions, colors.float())


def model_folder(path: Path | str) -> Path:
    """Where below a folder the model lies; where there are several parts, the first, which is said.

    Raises:
        FileError: if it lies nowhere.
    """
    path = Path(path)
    for place in (path / place for place in PLACES):
        if _is_model(place):
            return place
        parts = (
            sorted((p for p in place.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
            if (place.name == "sparse" and place.is_dir())
            else []
        )
        models = [part for part in parts if _is_model(part)]
        if models:
            tell(path, f"it has {len(models)} models, {', '.join(p.name for p in models)}; {models[0]} is read.")
            return models[0]
    looked = ", ".join(place or "itself" for place in PLACES[:5])
    raise FileError(path, f"there is no COLMAP model (cameras.bin or cameras.txt) in it (looked in {looked}).", CURE)


def images_folder(path: Path | str, model: Path | None = None) -> Path:
    """The folder ``images`` (or ``input``) in the given folder or beside the folders that the model lies in."""
    path = Path(path)
    model = path if model is None else model
    for name in IMAGE_FOLDERS:
        for above in dict.fromkeys((path, model.parent, model.parent.parent, model.parent.parent.parent)):
            if (above / name).is_dir():
                return above / name
    return path / "images"


def _is_model(place: Path) -> bool:
    return any((place / f"cameras{suffix}").is_file() for suffix in READERS)


def _poses(path: Path, found: Sequence[ColmapImage], cameras: Mapping[int, ColmapCamera]) -> Float[Tensor, "F 4 4"]:
    """World-to-camera matrices; COLMAP normalizes quaternions as it reads them, and so do we."""
    if not found:
        raise FileError(path, "no image is registered in it.", "Run COLMAP's mapper again.")
    for image in found:
        if image.camera not in cameras:
            raise FileError(path, f"{printable(image.name)!r} has camera {image.camera}, which is not there.", CURE)
    quats = torch.tensor([image.quat for image in found], dtype=torch.float64)
    lengths = quats.norm(dim=-1, keepdim=True)
    poses = torch.eye(4, dtype=torch.float64).repeat(len(found), 1, 1)
    poses[:, :3, :3] = rotation_matrices(quats / lengths)
    poses[:, :3, 3] = torch.tensor([image.translation for image in found], dtype=torch.float64)
    bad = ~(poses.float().isfinite().all(-1).all(-1) & (lengths[:, 0] > 1e-6))
    if bad.any():
        image = found[int(bad.nonzero()[0])]
        raise FileError(
            path, f"the pose of {printable(image.name)!r} is none: {image.quat}, {image.translation}.", CURE
        )
    return poses


def _masks(images: Path, names: Sequence[str]) -> tuple[Mask | None, ...]:
    """``masks/NAME.png`` beside the folder of images, or ``masks/STEM.png`` (nerfstudio, Brush)."""
    folder = images.parent / "masks"
    if not folder.is_dir():
        return ()
    found: list[Mask | None] = []
    for name in names:
        places = (folder / f"{name}.png", folder / Path(name).with_suffix(".png"))
        file = next((place for place in places if "\0" not in name and place.is_file()), None)
        found.append(None if file is None else Mask(file))
    return tuple(found)


def _file(folder: Path, name: str) -> Path:
    for suffix in READERS:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise FileError(folder, f"it has neither {name}.bin nor {name}.txt.", CURE)


def _reader(file: Path) -> ModuleType:
    return READERS[file.suffix]
