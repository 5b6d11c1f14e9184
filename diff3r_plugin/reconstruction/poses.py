"""Cameras and points of photographs by ``pycolmap``: features, matches, incremental mapping, undistortion.

Each step writes beside its place and is moved there when it is whole; features and matches are kept one by one in
COLMAP's database, so that an interrupted step resumes with what is missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from diff3r_plugin.io import FileError, image_size
from diff3r_plugin.io.errors import require
from diff3r_plugin.reconstruction.settings import MOST_EXHAUSTIVE, ReconstructionError, ReconstructionSettings

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FEWEST = 3
PHOTOGRAPHS_HELP = (
    "Photographs must overlap (each point in three of them), show texture, and be taken from different places."
)


def photographs(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the photographs below a folder, in order, and of files that are damaged.

    Raises:
        ReconstructionError: for fewer than three.
    """
    if not folder.is_dir():
        raise ReconstructionError(f"{folder} is no folder of photographs.")
    found, broken = [], []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in name.split("/")):
            continue
        try:
            image_size(file)
        except FileError:
            broken.append(name)
        else:
            found.append(name)
    if len(found) < FEWEST:
        raise ReconstructionError(
            f"{folder} holds {len(found)} photographs ({', '.join(SUFFIXES)}), and {FEWEST} are the least. "
            + (f"{len(broken)} are damaged, the first is {broken[0]}." if broken else PHOTOGRAPHS_HELP)
        )
    return found, broken


class StructureFromMotion:
    """The steps, each of which does nothing where it is done.

    Args:
        settings: What to reconstruct.
        names: Of the photographs.
        say: Is told of each step.

    Raises:
        MissingPackageError: without the extra ``diff3r-plugin[sfm]``.
    """

    def __init__(self, settings: ReconstructionSettings, names: Sequence[str], say: Callable[[str], None]) -> None:
        self.settings, self.names, self.say = settings, list(names), say
        self.folder = settings.out / "sfm"
        self.database, self.models = self.folder / "database.db", self.folder / "models"
        self.undistorted = settings.out / "undistorted"
        self.colmap: ModuleType = require("pycolmap", "Poses of photographs", "sfm")
        self.colmap.logging.minloglevel = int(self.colmap.logging.Level.ERROR.value)
        self.threads = settings.threads or os.cpu_count() or 1

    def run(self) -> Path:
        """All steps; returns the folder with undistorted images and their cameras.

        Raises:
            ReconstructionError: if no poses are found.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.undistorted.is_dir():
            if not self.models.is_dir():
                self._features()
                self._matches()
                self._map()
            self._undistort(self._best())
        return self.undistorted

    def _features(self) -> None:
        self.say(f"features of {len(self.names)} photographs")
        c, settings = self.colmap, self.settings
        extraction = c.FeatureExtractionOptions()
        extraction.max_image_size, extraction.num_threads, extraction.use_gpu = settings.sfm_size, self.threads, False
        reader = c.ImageReaderOptions()
        reader.camera_model = settings.camera_model
        sizes = {image_size(settings.photos / name) for name in self.names}
        single = settings.single_camera and len(sizes) == 1
        c.extract_features(
            self.database,
            settings.photos,
            image_names=self.names,
            camera_mode=c.CameraMode.SINGLE if single else c.CameraMode.AUTO,
            reader_options=reader,
            extraction_options=extraction,
            device=c.Device.cpu,
        )

    def _matches(self) -> None:
        c, count = self.colmap, len(self.names)
        matching = self.settings.matching
        exhaustive = matching == "exhaustive" or (matching == "auto" and count <= MOST_EXHAUSTIVE)
        self.say("matches of " + (f"{count * (count - 1) // 2} pairs" if exhaustive else "neighbors by name"))
        options = c.FeatureMatchingOptions()
        options.num_threads, options.use_gpu = self.threads, False
        verification = c.TwoViewGeometryOptions()
        verification.ransac.random_seed = self.settings.seed
        match = c.match_exhaustive if exhaustive else c.match_sequential
        match(self.database, matching_options=options, verification_options=verification, device=c.Device.cpu)

    def _map(self) -> None:
        self.say("cameras")
        making = _fresh(self.folder / "models.part")
        options = self.colmap.IncrementalPipelineOptions()
        options.num_threads, options.random_seed, options.min_model_size = self.threads, self.settings.seed, FEWEST
        found = self.colmap.incremental_mapping(self.database, self.settings.photos, making, options)
        if not found:
            raise ReconstructionError(
                f"No cameras were found for the {len(self.names)} photographs of {self.settings.photos}. "
                + PHOTOGRAPHS_HELP
                + (" --matching exhaustive looks at all pairs." if self.settings.matching == "sequential" else "")
            )
        making.rename(self.models)

    def _best(self) -> Path:
        """The part of the scene with the most photographs."""
        parts = [part for part in self.models.iterdir() if part.is_dir()]
        counts = {part: self.colmap.Reconstruction(part).num_reg_images() for part in parts}
        best = max(parts, key=lambda part: counts[part])
        left = f"; {len(parts) - 1} parts of the scene are left out" if len(parts) > 1 else ""
        self.say(f"{counts[best]} of {len(self.names)} photographs have cameras{left}")
        return best

    def _undistort(self, model: Path) -> None:
        self.say("undistorted images")
        making = _fresh(self.settings.out / "undistorted.part")
        options = self.colmap.UndistortCameraOptions()
        options.max_image_size = self.settings.size
        more: dict[str, Any] = {"undistort_options": options, "jpeg_quality": 97, "num_threads": self.threads}
        self.colmap.undistort_images(making, model, self.settings.photos, **more)
        making.rename(self.undistorted)


def _fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
