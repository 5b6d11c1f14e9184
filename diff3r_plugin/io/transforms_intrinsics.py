"""Sizes and intrinsics of a ``transforms.json``'s frames, and whose pixels they are in where it does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.conventions import pixel_intrinsics
from diff3r_plugin.io.errors import FileError, tell
from diff3r_plugin.io.images import image_size
from diff3r_plugin.io.transforms_keys import CURE, number

OFF_CENTER = 1.25
"""Ratio of twice the principal point to the image's side, or its inverse, up to which it is that image's."""
FACTOR_TOLERANCE = 0.1
"""Of that ratio, to a whole number by which the images were made smaller or larger."""


def size_of(
    path: Path, frame: Mapping[str, Any], file: Path, problem: FileError | None
) -> tuple[tuple[int, int], FileError | None]:
    """(H, W) that a frame's intrinsics belong to, and why it cannot be known, if so: nobody may ask for this frame.

    Raises:
        FileError: for ``w`` and ``h`` that cannot be.
    """
    given = {key: number(path, frame, key) for key in ("w", "h") if frame.get(key) is not None}
    for key, length in given.items():
        if not (0 < length < 1e6 and length == int(length)):
            raise FileError(path, f"an image of {key}={length:g} cannot be.", CURE)
    if len(given) == 2:
        return (int(given["h"]), int(given["w"])), problem
    if problem is not None:
        return (1, 1), problem
    try:
        height, width = image_size(file)
        if "w" in given:
            return (max(round(height * given["w"] / width), 1), int(given["w"])), None
        if "h" in given:
            return (int(given["h"]), max(round(width * given["h"] / height), 1)), None
        return _by_principal_point(path, frame, (height, width)), None
    except FileError as error:
        return (1, 1), error


def intrinsics_of(path: Path, frame: Mapping[str, Any], size: tuple[int, int]) -> Float[Tensor, "3 3"]:
    """The matrix in pixels of an image of that size.

    Each axis has ``x_fov`` (degrees), ``fl_x`` or ``camera_angle_x`` (radians), in this order as in instant-ngp; one
    axis without any has the focal length of the other.

    Raises:
        FileError: if there is no focal length, or one cannot be.
    """
    height, width = size
    fx, fy = _focal(path, frame, "x", width), _focal(path, frame, "y", height)
    if fx is None and fy is None:
        raise FileError(path, "it has neither fl_x nor camera_angle_x.", CURE)
    fx, fy = (fy if fx is None else fx), (fx if fy is None else fy)
    assert fx is not None and fy is not None
    cx, cy = number(path, frame, "cx", width / 2), number(path, frame, "cy", height / 2)
    return pixel_intrinsics(fx, fy, cx, cy, "pixels", size)


def _focal(path: Path, frame: Mapping[str, Any], axis: str, length: int) -> float | None:
    if frame.get(f"{axis}_fov") is not None:
        angle = math.radians(number(path, frame, f"{axis}_fov"))
    elif frame.get(f"fl_{axis}") is not None:
        return number(path, frame, f"fl_{axis}")
    elif frame.get(f"camera_angle_{axis}") is not None:
        angle = number(path, frame, f"camera_angle_{axis}")
    else:
        return None
    if not 0 < angle < math.pi:
        raise FileError(path, f"a camera angle of {angle:g} cannot be.", "Angles are in radians, between 0 and π.")
    return 0.5 * length / math.tan(0.5 * angle)


def _by_principal_point(path: Path, frame: Mapping[str, Any], found: tuple[int, int]) -> tuple[int, int]:
    """The size whose middle the principal point is near: the image's, or that times a whole number or its inverse."""
    if not any(frame.get(key) is not None for key in ("fl_x", "fl_y", "cx", "cy")):
        return found
    height, width = found
    ratios = [
        2 * number(path, frame, key) / length for key, length in (("cx", width), ("cy", height)) if frame.get(key)
    ]
    if not ratios:
        tell(
            path,
            f"it has a focal length, and no w, h, cx and cy: taken in pixels of its images as they are, {width} x "
            f"{height}.",
        )
        return found
    if all(1 / OFF_CENTER <= ratio <= OFF_CENTER for ratio in ratios):
        return found
    for factor in range(2, 17):
        for scale in (float(factor), 1 / factor):
            if all(abs(ratio / scale - 1) <= FACTOR_TOLERANCE for ratio in ratios):
                size = (max(round(height * scale), 1), max(round(width * scale), 1))
                tell(
                    path,
                    f"it has no w and h, and its principal point is that of images of about {size[1]} x {size[0]}; its "
                    f"images have {width} x {height}: taken as {'smaller' if scale > 1 else 'larger'} by {factor}.",
                )
                return size
    raise FileError(
        path,
        f"it has no w and h, and its principal point ({frame.get('cx')}, {frame.get('cy')}) is far from the middle of "
        f"an image of {width} x {height}: whose pixels its numbers are in cannot be told.",
        "Add w and h, the size of the images that the file was made from.",
    )
