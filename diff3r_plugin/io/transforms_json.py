"""Posed images of a ``transforms.json``, as nerfstudio, instant-ngp and Blender's NeRF data have it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from diff3r_plugin.io.conventions import pixel_intrinsics, world_to_camera
from diff3r_plugin.io.errors import FileError, reading
from diff3r_plugin.io.images import image_size
from diff3r_plugin.io.lenses import Lens
from diff3r_plugin.io.posed_images import PosedImages
from diff3r_plugin.ranges import require_choice

KIND, CURE = "a transforms.json", "Give the file that nerfstudio's or instant-ngp's tools write."
MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "perspective")
SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
World = Literal["file", "original"]
"""Whose world: the file's, or that of the reconstruction which ``applied_transform`` was applied to."""


def read_transforms_json(path: Path | str, images: Path | str | None = None, world: World = "file") -> PosedImages:
    """The images and cameras of a ``transforms.json``; in the file, cameras have OpenGL axes and pixel intrinsics.

    Args:
        path: The file, or the folder it lies in.
        images: Folder of the images, where they do not lie where the file says.
        world: "file", or "original" to undo the file's ``applied_transform``: for Gaussians that live in the world of
            the COLMAP model it was made from.

    Raises:
        FileError: if the file is damaged, an image is missing, or a lens is a fisheye. One that distorts otherwise is
            kept; see :meth:`PosedImages.undistorted`.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``, where sizes have to be read from images.
    """
    require_choice("world", world, get_args(World))
    path = Path(path)
    path = path / "transforms.json" if path.is_dir() else path
    with reading(path, KIND, CURE):
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
            raise FileError(path, "it has no list of frames.", CURE)
        files = [_file(path, frame, None if images is None else Path(images)) for frame in frames]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileError(
                path,
                f"{len(missing)} of its {len(files)} images are missing, the first is {missing[0]}.",
                "Put them there, name their folder (--images), or remove those frames from the file.",
            )
        sizes, matrices, poses, lenses = [], [], [], []
        for frame, file in zip(frames, files, strict=True):
            of_frame = {**content, **frame}
            lenses.append(_lens(path, of_frame))
            sizes.append(_size(path, of_frame, file))
            matrices.append(_intrinsics(path, of_frame, sizes[-1]))
            poses.append(_matrix(path, frame.get("transform_matrix"), "transform_matrix"))
        to_world = torch.stack(poses)
        if world == "original" and "applied_transform" in content:
            applied = _matrix(path, content["applied_transform"], "applied_transform")
            to_world = torch.linalg.inv(applied) @ to_world
            to_world = torch.cat([to_world[:, :3], to_world.new_tensor([[[0, 0, 0, 1.0]]]).expand(len(files), 1, 4)], 1)
        names = tuple(str(frame["file_path"]) for frame in frames)
        return PosedImages(
            path,
            names,
            tuple(files),
            world_to_camera(to_world, "opengl"),
            torch.stack(matrices),
            tuple(sizes),
            tuple(lenses),
        )


def _file(path: Path, frame: Mapping[str, Any], images: Path | None) -> Path:
    name = frame.get("file_path")
    if not isinstance(name, str) or not name or "\0" in name:
        raise FileError(path, "a frame has no file_path.", CURE)
    places = [path.parent / name] if images is None else [images / name, images / Path(name).name]
    candidates = [place.with_name(place.name + suffix) for place in places for suffix in ("", *SUFFIXES)]
    return next((file for file in candidates if file.is_file()), candidates[0])


def _lens(path: Path, frame: Mapping[str, Any]) -> Lens | None:
    model = frame.get("camera_model", "OPENCV")
    higher = {name: value for name in ("k3", "k4") if (value := _number(path, frame, name, 0.0))}
    if model not in MODELS or higher:
        what = f"camera_model={model!r}" if model not in MODELS else f"{higher}"
        raise FileError(
            path,
            f"a lens has {what}, and Gaussians are rendered through pinholes.",
            "Undistort the images: 'colmap image_undistorter' on the model that the file was made from, then give its "
            "folder.",
        )
    lens = Lens(*(_number(path, frame, name, 0.0) for name in ("k1", "k2", "p1", "p2")))
    return lens if lens.distorts else None


def _size(path: Path, frame: Mapping[str, Any], file: Path) -> tuple[int, int]:
    if "h" not in frame or "w" not in frame:
        return image_size(file)
    height, width = (_number(path, frame, name) for name in ("h", "w"))
    if not (0 < height < 1e6 and 0 < width < 1e6 and height == int(height) and width == int(width)):
        raise FileError(path, f"an image of w={width:g}, h={height:g} cannot be.", CURE)
    return int(height), int(width)


def _intrinsics(path: Path, frame: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    height, width = size
    if "fl_x" in frame:
        fx = _number(path, frame, "fl_x")
    elif "camera_angle_x" in frame:
        fx = _focal(path, _number(path, frame, "camera_angle_x"), width)
    else:
        raise FileError(path, "it has neither fl_x nor camera_angle_x.", CURE)
    if "fl_y" in frame:
        fy = _number(path, frame, "fl_y")
    elif "camera_angle_y" in frame and "fl_x" not in frame:
        fy = _focal(path, _number(path, frame, "camera_angle_y"), height)
    else:
        fy = fx
    cx, cy = _number(path, frame, "cx", width / 2), _number(path, frame, "cy", height / 2)
    return pixel_intrinsics(fx, fy, cx, cy, "pixels", size)


def _focal(path: Path, angle: float, length: int) -> float:
    if not 0 < angle < math.pi:
        raise FileError(path, f"a camera angle of {angle:g} cannot be.", "Angles are in radians, between 0 and π.")
    return 0.5 * length / math.tan(0.5 * angle)


def _number(path: Path, frame: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = frame.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FileError(path, f"{name} must be a number, got {value!r}.", CURE)
    return float(value)


def _matrix(path: Path, value: Any, name: str) -> Tensor:
    rows = torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else torch.empty(0)
    if tuple(rows.shape) not in ((3, 4), (4, 4)):
        raise FileError(path, f"{name} must be a matrix of 3 x 4 or 4 x 4 numbers.", CURE)
    return rows if len(rows) == 4 else torch.cat([rows, rows.new_tensor([[0.0, 0.0, 0.0, 1.0]])])
