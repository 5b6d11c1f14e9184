"""COLMAP's text files (``cameras.txt``, ``images.txt``, ``points3D.txt``)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from diff3r_plugin.io.colmap_records import MODELS, ColmapCamera, ColmapImage, ColmapPoint
from diff3r_plugin.io.errors import FileError, tell

CURE = "Write the model again with 'colmap model_converter'."


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are no comments, with their numbers; empty ones too, for an image without points has one."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.startswith("#"):
                yield number, line.rstrip("\r\n")


def _fields(path: Path, number: int, line: str, least: int, most: int = -1) -> list[str]:
    fields = line.split(maxsplit=most)
    if len(fields) < least:
        raise FileError(path, f"line {number} has {len(fields)} fields, not at least {least}.", CURE)
    return fields


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """``cameras.txt``."""
    cameras = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        camera, model, width, height, *params = _fields(path, number, line, 4)
        if model not in MODELS or len(params) != MODELS[model][1]:
            raise FileError(path, f"line {number}: no camera model {model!r} with {len(params)} parameters.", CURE)
        cameras[int(camera)] = ColmapCamera(model, int(width), int(height), tuple(map(float, params)))
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """``images.txt``, without the points in the images.

    COLMAP writes two lines for each image, the second with its points and often empty. Tools and people leave the empty
    ones out: a second line that is no list of points is the next image.
    """
    images: list[ColmapImage] = []
    points_may_follow = False
    for number, line in _lines(path):
        if not line.strip():
            points_may_follow = False
            continue
        if points_may_follow and _is_points(line):
            points_may_follow = False
            continue
        _, *pose, camera, name = _fields(path, number, line, 10, 9)
        w, x, y, z, *translation = map(float, pose)
        images.append(
            ColmapImage(name.strip(), (w, x, y, z), tuple(translation), int(camera))  # type: ignore[arg-type]
        )
        points_may_follow = True
    _check_count(path, len(images))
    return images


def _is_points(line: str) -> bool:
    """Whether a line is X, Y, POINT3D_ID for any number of points; a name among the fields says that it is none."""
    fields = line.split()
    if len(fields) % 3:
        return False
    try:
        return all(math.isfinite(float(field)) for field in fields) and all(int(f) >= -1 for f in fields[2::3])
    except ValueError:
        return False


def _check_count(path: Path, found: int) -> None:
    """COLMAP's header says how many there are; a file that was truncated or edited has fewer."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        head = "".join(line for line, _ in zip(file, range(10), strict=False) if line.startswith("#"))
    said = re.search(r"Number of images:\s*(\d+)", head)
    if said and int(said[1]) != found:
        tell(path, f"its header says {int(said[1])} images, and {found} are in it: {found} are used.")


def read_points(path: Path) -> list[ColmapPoint]:
    """``points3D.txt``, without the tracks."""
    points = []
    for number, line in _lines(path):
        if not line.strip():
            continue
        _, x, y, z, red, green, blue, *_ = _fields(path, number, line, 8)
        color = (int(red), int(green), int(blue))
        if not all(0 <= channel <= 255 for channel in color):
            raise FileError(path, f"line {number}: {color} is no color of 0 to 255.", CURE)
        points.append(ColmapPoint((float(x), float(y), float(z)), color))
    return points
