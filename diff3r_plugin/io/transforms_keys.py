"""Keys of a ``transforms.json`` that change the image or the geometry, as its loaders read them.

Read here: nerfstudio's and instant-ngp's lens keys. The tables say what becomes of the other keys that these loaders
read: some are refused, some are told of; those in neither table concern their training alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diff3r_plugin.io.errors import FileError, tell
from diff3r_plugin.io.lenses import AnyLens, FisheyeLens, Lens

CURE = "Give the file that nerfstudio's or instant-ngp's tools write."
PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
FISHEYES = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "EQUIDISTANT")
UNDISTORT = (
    "Undistort the images: 'colmap image_undistorter' on the model that the file was made from, then give its folder."
)
OTHER_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic", "orthophoto")
"""Keys by which instant-ngp knows images that no pinhole took."""
TOLD = {
    "fisheye_crop_radius": "pixels outside of the circle count; leave them out with masks (mask_path)",
    "sharpness_discard_threshold": "blurred frames are not left out; choose with --frames",
    "white_transparent": "white pixels are taken as white; make them transparent, or mask them (mask_path)",
    "black_transparent": "black pixels are taken as black; make them transparent, or mask them (mask_path)",
    "envmap": "there is no environment behind the Gaussians but --background",
    "fix_premult": "pixels are taken as they are stored",
}
"""Keys that change an image and that are not applied, and what to do about it."""


def lens_of(path: Path, frame: Mapping[str, Any]) -> AnyLens | None:
    """The lens of a frame, None for a pinhole.

    Raises:
        FileError: for images that no pinhole can show, and for keys that contradict each other.
    """
    given = frame.get("camera_model", "")
    model = given.upper() if isinstance(given, str) else repr(given)
    other = next((key for key in OTHER_LENSES if frame.get(key) not in (None, False)), None)
    if other is not None or (model and model not in PERSPECTIVE + FISHEYES):
        what = f"{other}={frame[other]!r}" if other is not None else f"camera_model={given!r}"
        raise FileError(path, f"a lens has {what}, and Gaussians are rendered through pinholes.", UNDISTORT)
    flag = bool(frame.get("is_fisheye", False))
    if flag and model in PERSPECTIVE and model != "OPENCV":
        raise FileError(
            path,
            f"it says camera_model={given!r} and is_fisheye={frame['is_fisheye']!r}: one of them is wrong.",
            "Remove the one that is.",
        )
    k = {name: number(path, frame, name, 0.0) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
    if frame.get("distortion_params") is not None:
        k |= _distortion_params(path, frame["distortion_params"])
    if model in FISHEYES or flag:
        if k["p1"] or k["p2"] or k["k5"] or k["k6"]:
            raise FileError(path, f"a fisheye has {_some(k, ('k5', 'k6', 'p1', 'p2'))}.", UNDISTORT)
        return FisheyeLens(k["k1"], k["k2"], k["k3"], k["k4"])
    if k["k4"] or k["k5"] or k["k6"]:
        raise FileError(
            path,
            f"a lens has {_some(k, ('k4', 'k5', 'k6'))}, which OpenCV and nerfstudio mean differently.",
            UNDISTORT,
        )
    lens = Lens(k["k1"], k["k2"], k["p1"], k["p2"], k["k3"])
    if lens.distorts and model in ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"):
        tell(path, f"camera_model={given!r} beside {lens}: the lens is taken to distort, as nerfstudio does.")
    return lens if lens.distorts else None


def check_keys(path: Path, content: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> None:
    """Refuse or tell of keys that change images or geometry and are not applied.

    Raises:
        FileError: for those that make the cameras something else.
    """
    if content.get("from_mitsuba") or content.get("normal_mts_args"):
        raise FileError(path, "it has 'from_mitsuba': cameras of other axes.", "Write the cameras in OpenGL axes.")
    for key, consequence in TOLD.items():
        value = next((each[key] for each in (content, *frames) if each.get(key) not in (None, False, 0, "")), None)
        if value is not None:
            tell(path, f"{key}={value!r} is not applied: {consequence}.")
    rolling = content.get("rolling_shutter")
    moving = [frame for frame in frames if frame.get("transform_matrix_end") not in (None, start_of(frame))]
    if moving:
        tell(path, f"{len(moving)} frames move while they are taken (transform_matrix_end); their start is taken.")
    elif isinstance(rolling, list) and any(rolling) and any("transform_matrix_end" in frame for frame in frames):
        tell(path, f"rolling_shutter={rolling!r} is not applied.")


def start_of(frame: Mapping[str, Any]) -> Any:
    """A frame's matrix, as instant-ngp chooses it."""
    return frame.get("transform_matrix_start", frame.get("transform_matrix"))


def number(path: Path, frame: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A key that must be a number.

    Raises:
        FileError: if it is none.
    """
    value = frame.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FileError(path, f"{name} must be a number, got {value!r}.", CURE)
    return float(value)


def _distortion_params(path: Path, value: Any) -> dict[str, float]:
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    if not isinstance(value, list) or len(value) > len(names):
        raise FileError(path, f"distortion_params must be up to six numbers {', '.join(names)}, got {value!r}.", CURE)
    named = dict(zip(names, value, strict=False))
    return {name: number(path, named, name) for name in named}


def _some(k: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={k[name]:g}" for name in names if k[name])
