"""From a folder of photographs to a refined scene, in steps that resume."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.reconstruction.poses import StructureFromMotion, photographs
from diff3r_plugin.reconstruction.settings import ReconstructionError, ReconstructionSettings
from diff3r_plugin.refine import RefineResult, RefineSettings, refine
from diff3r_plugin.refine.progress import Progress


def reconstruct(
    settings: ReconstructionSettings,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RefineResult:
    """Find the cameras of photographs, and refine a scene from the points they share.

    A run in ``settings.out`` that was interrupted is resumed. Files there: ``sfm`` (COLMAP's database and
    models), ``undistorted`` (images and cameras, a COLMAP folder), ``refined`` (see
    :func:`~diff3r_plugin.refine.refine`), ``reconstruction.json``.

    Args:
        settings: What, and how.
        progress: Is told of each round of the refinement.
        say: Is told of each step before it.

    Returns:
        The refinement.

    Raises:
        ReconstructionError: for too few photographs, no cameras, or a folder with another run in it.
        RefineError: for what cannot be refined as asked.
        MissingPackageError: without the extra ``diff3r-plugin[sfm]``.
    """
    names, broken = photographs(settings.photos)
    if broken:
        say(f"{len(broken)} photographs are damaged and left out, the first is {broken[0]}")
    _check_identity(settings, names)
    started = time.perf_counter()
    undistorted = StructureFromMotion(settings, names, say).run()
    refinement = RefineSettings(
        scene=None,
        cameras=str(undistorted),
        out=settings.out / "refined",
        **{"seed": settings.seed, **settings.refinement},
    )
    say(f"refinement from points (cameras took {time.perf_counter() - started:.0f} s)")
    resume = (settings.out / "refined" / "checkpoint").is_dir()
    return refine(refinement, resume=resume, progress=progress)


def _check_identity(settings: ReconstructionSettings, names: list[str]) -> None:
    """The folder belongs to these photographs and settings, or to nothing yet."""
    record = settings.out / "reconstruction.json"
    sizes = {name: (settings.photos / name).stat().st_size for name in names}
    identity: dict[str, Any] = {**settings.of_sfm(), "photos": sizes}
    if record.is_file():
        there = _read(record)
        for key, value in identity.items():
            if there.get(key) == value:
                continue
            what = "other photographs" if key == "photos" else f"{key}={there.get(key)!r}, this one {value!r}"
            raise ReconstructionError(
                f"The run in {settings.out} has {what}. Resume with the same, or give another --out."
            )
        return
    with atomic_write(record) as file:
        file.write((json.dumps(identity, indent=1) + "\n").encode())


def _read(record: Path) -> dict[str, Any]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no record")
    except ValueError as error:
        raise ReconstructionError(f"{record} is damaged; remove {record.parent} to start anew.") from error
    return content
