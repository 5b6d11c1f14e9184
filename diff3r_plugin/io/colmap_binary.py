"""COLMAP's binary files (``cameras.bin``, ``images.bin``, ``points3D.bin``), every count checked against the file."""

from __future__ import annotations

import struct
from pathlib import Path

from diff3r_plugin.io.colmap_records import MODELS, ColmapCamera, ColmapImage, ColmapPoint
from diff3r_plugin.io.errors import FileError

TRUNCATED = "Copy the model again, or write it again with 'colmap model_converter'."
UNKNOWN_MODEL = "Copy the model again; if a newer COLMAP wrote it, undistort it with that ('colmap image_undistorter')."
LONGEST_NAME = 4096

_BY_NUMBER = {number: (name, count) for name, (number, count) in MODELS.items()}
_CAMERA, _IMAGE, _POINT = struct.Struct("<iiQQ"), struct.Struct("<i7di"), struct.Struct("<Q3d3Bd")
_COUNT = struct.Struct("<Q")
_POINT_2D_BYTES, _TRACK_BYTES = 24, 8


class Cursor:
    """A file read from front to back, which says so where it ends too early."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, path.read_bytes(), 0

    def take(self, record: struct.Struct) -> tuple:
        """The next record."""
        self.need(record.size, 1)
        values = record.unpack_from(self.data, self.position)
        self.position += record.size
        return values

    def count(self, smallest: int) -> int:
        """The next number of things, of which each takes at least so many bytes."""
        (number,) = self.take(_COUNT)
        self.need(smallest, number)
        return number

    def skip(self, size: int, times: int) -> None:
        """Pass over so many things of so many bytes."""
        self.need(size, times)
        self.position += size * times

    def text(self) -> str:
        """The next text, which ends in a zero byte."""
        end = self.data.find(b"\0", self.position, self.position + LONGEST_NAME)
        if end < 0:
            raise FileError(self.path, f"a name at byte {self.position} has no end.", TRUNCATED)
        text = self.data[self.position : end]
        self.position = end + 1
        return text.decode("utf-8", "surrogateescape")  # COLMAP writes the bytes that the file system gave it

    def need(self, size: int, times: int) -> None:
        """Raise FileError unless so much is left."""
        left = len(self.data) - self.position
        if size * times > left:
            raise FileError(
                self.path,
                f"it promises {times} x {size} bytes at byte {self.position}, and has {left}: truncated or damaged.",
                TRUNCATED,
            )

    def finish(self) -> None:
        """Raise FileError if something is left over."""
        if self.position != len(self.data):
            raise FileError(
                self.path, f"{len(self.data) - self.position} bytes are left over after its last record.", TRUNCATED
            )


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """``cameras.bin``."""
    cursor, cameras = Cursor(path), {}
    for _ in range(cursor.count(_CAMERA.size)):
        number, model, width, height = cursor.take(_CAMERA)
        if model not in _BY_NUMBER:
            raise FileError(
                path, f"camera {number} has model {model}; known are 0 to {max(_BY_NUMBER)}.", UNKNOWN_MODEL
            )
        name, parameters = _BY_NUMBER[model]
        cameras[number] = ColmapCamera(name, width, height, cursor.take(struct.Struct(f"<{parameters}d")))
    cursor.finish()
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """``images.bin``, without the points in the images."""
    cursor, images = Cursor(path), []
    for _ in range(cursor.count(_IMAGE.size)):
        _, *pose, camera = cursor.take(_IMAGE)
        name = cursor.text()
        cursor.skip(_POINT_2D_BYTES, cursor.count(_POINT_2D_BYTES))
        images.append(ColmapImage(name, tuple(pose[:4]), tuple(pose[4:]), camera))  # type: ignore[arg-type]
    cursor.finish()
    return images


def read_points(path: Path) -> list[ColmapPoint]:
    """``points3D.bin``, without the tracks."""
    cursor, points = Cursor(path), []
    for _ in range(cursor.count(_POINT.size)):
        _, x, y, z, red, green, blue, _ = cursor.take(_POINT)
        cursor.skip(_TRACK_BYTES, cursor.count(_TRACK_BYTES))
        points.append(ColmapPoint((x, y, z), (red, green, blue)))
    cursor.finish()
    return points
