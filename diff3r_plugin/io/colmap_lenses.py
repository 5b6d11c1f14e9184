"""COLMAP's camera models as a pinhole and a lens."""

from __future__ import annotations

import math
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.colmap_records import ColmapCamera
from diff3r_plugin.io.conventions import pixel_intrinsics
from diff3r_plugin.io.errors import FileError
from diff3r_plugin.io.lenses import AnyLens, ColmapLens, FisheyeLens, Lens

CURE = "Run 'colmap image_undistorter' and give its output folder."
ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_DIVISION",
             "SIMPLE_FISHEYE")  # fmt: skip
"""Models whose parameters begin with f, cx, cy; those of the others begin with fx, fy, cx, cy."""
PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
FISHEYES = ("SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE")


def pinhole_and_lens(path: Path, number: int, camera: ColmapCamera) -> tuple[Float[Tensor, "3 3"], AnyLens | None]:
    """A camera's intrinsics in pixels, and its lens where that distorts.

    Raises:
        FileError: for a camera that cannot be, or whose images no pinhole can show.
    """
    if not (0 < camera.width < 1 << 20 and 0 < camera.height < 1 << 20):
        raise FileError(path, f"camera {number} has {camera.width} x {camera.height} pixels.", CURE)
    if not all(map(math.isfinite, camera.params)):
        raise FileError(path, f"camera {number} has parameters that are not finite: {camera.params}.", CURE)
    if camera.model == "EQUIRECTANGULAR":
        raise FileError(
            path,
            f"camera {number} is EQUIRECTANGULAR: it looks into all directions, and Gaussians are rendered through "
            "pinholes.",
            "Cut its images into pinhole views first (COLMAP's panorama example does).",
        )
    if camera.model in ONE_FOCAL:
        (fx, cx, cy), rest = camera.params[:3], camera.params[3:]
        fy = fx
    else:
        (fx, fy, cx, cy), rest = camera.params[:4], camera.params[4:]
    lens = _lens(camera, rest)
    return (
        pixel_intrinsics(fx, fy, cx, cy, "pixels", (camera.height, camera.width)),
        lens if lens.distorts else None,
    )


def _lens(camera: ColmapCamera, rest: tuple[float, ...]) -> AnyLens:
    if camera.model in PINHOLES:
        return Lens(*rest)
    if camera.model in FISHEYES:
        return FisheyeLens(*rest)
    if camera.model == "FULL_OPENCV":
        k1, k2, p1, p2, *higher = rest
        return Lens(k1, k2, p1, p2, *higher)
    unit = (1.0, 0.0, 0.0) if camera.model in ONE_FOCAL else (1.0, 1.0, 0.0, 0.0)
    return ColmapLens(camera.model, unit + rest)
