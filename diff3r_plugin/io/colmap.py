"""Posed images and points of a COLMAP sparse model, binary or text.

An own reader, with bounds: ``pycolmap`` gives no error for a damaged model but does not come back.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import torch

from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.io import colmap_binary, colmap_text
from diff3r_plugin.io.colmap_records import ColmapCamera
from diff3r_plugin.io.conventions import pixel_intrinsics
from diff3r_plugin.io.errors import FileError, reading
from diff3r_plugin.io.lenses import Lens
from diff3r_plugin.io.points import PointCloud
from diff3r_plugin.io.posed_images import PosedImages

KIND, CURE = "a COLMAP model", "Give the folder with cameras, images and points3D (.bin or .txt), or the one above it."
READERS = {".bin": colmap_binary, ".txt": colmap_text}
QUAT_TOLERANCE = 1e-3


def read_colmap(path: Path | str, images: Path | str | None = None) -> PosedImages:
    """The registered images of a COLMAP model with their cameras, by name.

    COLMAP's conventions are this package's: OpenCV axes, world-to-camera, the first pixel's center at (0.5, 0.5).

    Args:
        path: The model's folder, or one that has it as ``sparse`` or ``sparse/0``.
        images: Folder of the images; by default the ``images`` beside the model.

    Raises:
        FileError: if a file is damaged, an image is missing, or a lens is of another model than COLMAP's pinholes,
            SIMPLE_RADIAL, RADIAL and OPENCV. One that distorts is kept; see :meth:`PosedImages.undistorted`.
    """
    folder = model_folder(path)
    cameras_file, images_file = _file(folder, "cameras"), _file(folder, "images")
    with reading(cameras_file, KIND, CURE):
        cameras = _reader(cameras_file).read_cameras(cameras_file)
        optics = {number: _pinhole_and_lens(cameras_file, number, camera) for number, camera in cameras.items()}
    with reading(images_file, KIND, CURE):
        found = sorted(_reader(images_file).read_images(images_file), key=lambda image: image.name)
        if not found:
            raise FileError(images_file, "no image is registered in it.", "Run COLMAP's mapper again.")
        poses = torch.eye(4, dtype=torch.float64).repeat(len(found), 1, 1)
        quats = torch.tensor([image.quat for image in found], dtype=torch.float64)
        poses[:, :3, :3] = rotation_matrices(quats)
        poses[:, :3, 3] = torch.tensor([image.translation for image in found], dtype=torch.float64)
        lengths = quats.norm(dim=-1)
        bad = ~(((lengths - 1).abs() < QUAT_TOLERANCE) & poses.isfinite().all(-1).all(-1))
        if bad.any():
            name = found[int(bad.nonzero()[0])].name
            raise FileError(images_file, f"the pose of {name!r} is none: {found[int(bad.nonzero()[0])]}.", CURE)
        for image in found:
            if image.camera not in cameras:
                raise FileError(images_file, f"{image.name!r} has camera {image.camera}, which is not there.", CURE)
        place = images_folder(path) if images is None else Path(images)
        files = tuple(place / image.name for image in found)
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileError(
                images_file,
                f"{len(missing)} of its {len(files)} images are missing, the first is {missing[0]}.",
                "Put them there, or name their folder (--images).",
            )
        return PosedImages(
            folder,
            tuple(image.name for image in found),
            files,
            poses,
            torch.stack([optics[image.camera][0] for image in found]),
            tuple((cameras[image.camera].height, cameras[image.camera].width) for image in found),
            tuple(optics[image.camera][1] for image in found),
        )


def read_colmap_points(path: Path | str) -> PointCloud:
    """The triangulated points of a COLMAP model with their colors.

    Raises:
        FileError: if the file is damaged, or not there.
    """
    file = _file(model_folder(path), "points3D")
    with reading(file, KIND, CURE):
        found = _reader(file).read_points(file)
        positions = torch.tensor([point.position for point in found], dtype=torch.float64).reshape(-1, 3).float()
        colors = torch.tensor([point.color for point in found], dtype=torch.float64).reshape(-1, 3) / 255
        if not positions.isfinite().all():
            raise FileError(file, "a point is not finite in float32.", CURE)
        return PointCloud(positions, colors.float())


def model_folder(path: Path | str) -> Path:
    """Where below a folder the model lies.

    Raises:
        FileError: if it lies nowhere.
    """
    path = Path(path)
    places = (path, path / "sparse" / "0", path / "sparse")
    for place in places:
        if any((place / f"cameras{suffix}").is_file() for suffix in READERS):
            return place
    raise FileError(path, "there is no COLMAP model (cameras.bin or cameras.txt) in it.", CURE)


def images_folder(path: Path | str) -> Path:
    """The folder ``images`` in the given folder or, of a model in ``sparse`` or ``sparse/0``, beside that."""
    path = Path(path)
    for above in (path, path.parent, path.parent.parent):
        if (above / "images").is_dir():
            return above / "images"
    return path / "images"


def _file(folder: Path, name: str) -> Path:
    for suffix in READERS:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise FileError(folder, f"it has neither {name}.bin nor {name}.txt.", CURE)


def _reader(file: Path) -> ModuleType:
    return READERS[file.suffix]


def _pinhole_and_lens(path: Path, number: int, camera: ColmapCamera) -> tuple[torch.Tensor, Lens | None]:
    """A camera's intrinsics in pixels, and its lens where that distorts."""
    if not (0 < camera.width < 1 << 20 and 0 < camera.height < 1 << 20):
        raise FileError(path, f"camera {number} has {camera.width} x {camera.height} pixels.", CURE)
    match camera.model:
        case "SIMPLE_PINHOLE" | "SIMPLE_RADIAL" | "RADIAL":
            (fx, cx, cy), lens = camera.params[:3], Lens(*camera.params[3:])
            fy = fx
        case "PINHOLE" | "OPENCV":
            (fx, fy, cx, cy), lens = camera.params[:4], Lens(*camera.params[4:])
        case _:
            raise FileError(
                path,
                f"camera {number} has the lens model {camera.model}, and Gaussians are rendered through pinholes.",
                "Run 'colmap image_undistorter' and give its output folder.",
            )
    if not all(map(math.isfinite, (lens.k1, lens.k2, lens.p1, lens.p2))):
        raise FileError(path, f"camera {number} has a lens that is not finite: {lens}.", CURE)
    matrix = pixel_intrinsics(fx, fy, cx, cy, "pixels", (camera.height, camera.width))
    return matrix, lens if lens.distorts else None
