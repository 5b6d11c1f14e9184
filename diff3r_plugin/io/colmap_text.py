"""COLMAP's text files (``cameras.txt``, ``images.txt``, ``points3D.txt``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diff3r_plugin.io.colmap_records import MODELS, ColmapCamera, ColmapImage, ColmapPoint
from diff3r_plugin.io.errors import FileError

CURE = "Write the model again with 'colmap model_converter'."


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are no comments, with their numbers; empty ones too, for an image without points has one."""
    with open(path, encoding="utf-8") as file:
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
    """``images.txt``, without the points in the images."""
    images, lines = [], _lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        _, *pose, camera, name = _fields(path, number, line, 10, 9)
        if next(lines, None) is None:
            raise FileError(path, f"line {number} is the first of an image's two, and the last of the file.", CURE)
        w, x, y, z, *translation = map(float, pose)
        images.append(ColmapImage(name, (w, x, y, z), tuple(translation), int(camera)))  # type: ignore[arg-type]
    return images


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
