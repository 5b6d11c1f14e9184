"""Settings of a reconstruction, checked where they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from diff3r_plugin.errors import Diff3rError
from diff3r_plugin.ranges import require_choice, require_whole

MATCHINGS = ("auto", "exhaustive", "sequential")
MOST_EXHAUSTIVE = 150
"""Photographs up to which each is matched with each other one by default: seconds grow with the square."""
CAMERA_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE")


class ReconstructionError(Diff3rError):
    """A reconstruction that cannot be done; the message says what to change."""


@dataclass(frozen=True)
class ReconstructionSettings:
    """What :func:`~diff3r_plugin.reconstruction.reconstruct` does.

    Args:
        photos: Folder of photographs, with those in folders below it.
        out: Folder for the results.
        matching: "exhaustive": each photograph with each other one; "sequential": neighbors by name, as of a
            video; "auto": the first for up to 150.
        camera_model: COLMAP's model of the lens; its distortion is undone.
        single_camera: One camera for all photographs of a size; otherwise as their EXIF data say.
        sfm_size: Longest side that features are looked for at, pixels.
        size: Longest side of the images that are refined on, pixels.
        seed: Of the mapper and the refinement.
        threads: For features, matching and mapping; None for all cores.
        refinement: Further settings of :class:`~diff3r_plugin.refine.RefineSettings`.

    Raises:
        ValueError: for a value out of its range.
    """

    photos: Path
    out: Path
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    camera_model: str = "SIMPLE_RADIAL"
    single_camera: bool = True
    sfm_size: int = 1600
    size: int = 640
    seed: int = 0
    threads: int | None = None
    refinement: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_choice("matching", self.matching, MATCHINGS)
        require_choice("camera_model", self.camera_model, CAMERA_MODELS)
        for name in ("sfm_size", "size"):
            require_whole(name, getattr(self, name), 64)
        if self.threads is not None:
            require_whole("threads", self.threads, 1)

    def of_sfm(self) -> dict[str, Any]:
        """What decides the poses: a run that resumes must agree on it."""
        keys = ("matching", "camera_model", "single_camera", "sfm_size", "size", "seed")
        return {key: value for key, value in asdict(self).items() if key in keys}
