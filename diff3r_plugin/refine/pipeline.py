"""A stand-alone refinement from files to files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin import __version__
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups.exposure import decode_exposure
from diff3r_plugin.io import write_npz, write_ply
from diff3r_plugin.io.conventions import camera_to_world
from diff3r_plugin.io.posed_images import scaled_intrinsics
from diff3r_plugin.refine.cameras import Cameras
from diff3r_plugin.refine.checkpoint import Checkpoint, Checkpoints
from diff3r_plugin.refine.inputs import Inputs, StoredImages, read_inputs
from diff3r_plugin.refine.pictures import write_pictures
from diff3r_plugin.refine.plan import make_plan
from diff3r_plugin.refine.plausibility import tell_of_doubt
from diff3r_plugin.refine.progress import Progress
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.scoring import mean_scores
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.refine.sources import ViewSource
from diff3r_plugin.render import resolve_backend
from diff3r_plugin.strict_json import write_json

NOT_IDENTITY = ("out", "rounds", "memory_gib", "device", "pictures")
"""Settings that a resumed run may change: they do not change what its rounds do."""


@dataclass(frozen=True, eq=False)
class RefineResult:
    """A finished refinement.

    Args:
        scene: Refined.
        metrics: What ``metrics.json`` holds.
    """

    scene: Gaussians
    metrics: dict[str, Any]


def refine(
    settings: RefineSettings,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    after_round: Callable[[int], None] | None = None,
) -> RefineResult:
    """Refine a scene on posed images, score it before and after, and write all of it below ``settings.out``.

    Args:
        settings: What, on what, and how.
        resume: Continue an interrupted run in ``settings.out``; without one, start.
        progress: Is told of each round; silent by default.
        after_round: Called with the number of finished rounds once their checkpoint is on the disk.

    Returns:
        The refined scene and what was measured. Files: ``refined.ply``, ``refined.npz``, ``metrics.json``, ``images/``.

    Raises:
        RefineError: for what cannot be done as asked.
        FileError: for what cannot be read.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    progress = progress or Progress(None)
    inputs = read_inputs(settings)
    context = StoredImages(inputs.context, inputs, settings)
    kinds = {"context": context, "held_out": StoredImages(inputs.held_out, inputs, settings, cache_bytes=0)}
    refinement = Refinement.of(settings, inputs.scene, context, from_points=settings.scene is None)
    plan = make_plan(inputs, settings, refinement.schedule)
    refinement = replace(refinement, schedule=plan.schedule)
    identity = {key: value for key, value in settings.record().items() if key not in NOT_IDENTITY}
    checkpoints = Checkpoints(settings.out, {**identity, "inputs": inputs.fingerprint(), "version": __version__})
    if checkpoints.exists() and not resume:
        raise RefineError(f"{settings.out} has a refinement already: give --resume to continue it, or another --out.")
    started = checkpoints.load() if checkpoints.exists() else Checkpoint(inputs.scene, [])
    _check_writable(settings)
    progress.begin(inputs, plan, len(started.rounds))
    before = {kind: refinement.score(inputs.scene, views) for kind, views in kinds.items()}
    if settings.scene is not None:
        tell_of_doubt(inputs, settings, before["context"])

    def told(state: Checkpoint) -> None:
        checkpoints.save(state)
        progress.round(state.rounds[-1])
        if after_round is not None:
            after_round(len(state.rounds))

    try:
        state = refinement.run(started, told)
    finally:
        progress.close()
    refined = state.result
    known = {"context": state.result_cameras, "held_out": None}
    after = {kind: refinement.score(refined, views, known[kind]) for kind, views in kinds.items()}
    metrics = {
        "version": __version__,
        "torch": torch.__version__,
        "backend": resolve_backend(settings.tto.backend, settings.device),
        "threads": torch.get_num_threads(),
        "settings": settings.record(),
        "gaussians": inputs.scene.num_gaussians,
        "gaussians_after": refined.num_gaussians,
        "best_round": state.best_round,
        "validation": [inputs.context.names[i] for i in plan.schedule.validation],
        "sh_degree": inputs.scene.sh_degree,
        "image_size": list(inputs.size),
        "memory_estimate_gib": plan.needed / (1 << 30),
        "before": {kind: mean_scores(scores) for kind, scores in before.items()},
        "after": {kind: mean_scores(scores) for kind, scores in after.items()},
        "views": {kind: _by_view(views, before[kind], after[kind]) for kind, views in kinds.items()},
        "rounds": state.rounds,
        "refine_seconds": sum(entry["seconds"] for entry in state.rounds),
    }
    write_scene(settings.out, refined, inputs)
    if state.result_cameras is not None:
        write_cameras(settings.out / "cameras.json", inputs, state.result_cameras)
    write_pictures(refinement, kinds, inputs.scene, state, settings.out / "images", settings.pictures)
    write_json(settings.out / "metrics.json", metrics)
    progress.end(metrics)
    return RefineResult(refined, metrics)


def write_scene(folder: Path, scene: Gaussians, inputs: Inputs) -> None:
    """``refined.ply`` and ``refined.npz`` in the frame of the files that the scene came from."""
    write_ply(folder / "refined.ply", scene, inputs.origin, inputs.rendering)
    if inputs.origin is not None:
        scene = scene.to(torch.float64)
        scene = replace(scene, means=scene.means + torch.tensor(inputs.origin, dtype=torch.float64))
    write_npz(folder / "refined.npz", scene)


def write_cameras(path: Path, inputs: Inputs, cameras: Cameras) -> None:
    """The context views where they were found to stand, as a ``transforms.json`` with the exposure of each.

    Images are named by their files, of the size that was refined on.
    """
    exposure, images = decode_exposure(cameras.exposure[None]), inputs.context
    poses = camera_to_world(cameras.world_to_camera.double(), "opengl")
    if inputs.origin is not None:
        poses[:, :3, 3] += torch.tensor(inputs.origin, dtype=torch.float64)
    frames = []
    for number, (name, source) in enumerate(zip(images.names, images.sources, strict=True)):
        matrix = scaled_intrinsics(images.intrinsics[number], images.sizes[number], inputs.size)
        frames.append(
            {
                "file_path": str(source.resolve()) if isinstance(source, Path) else name,
                "transform_matrix": poses[number].tolist(),
                **{"fl_x": float(matrix[0, 0]), "fl_y": float(matrix[1, 1])},
                **{"cx": float(matrix[0, 2]), "cy": float(matrix[1, 2]), "w": inputs.size[1], "h": inputs.size[0]},
                **{"exposure_gain": exposure.gain[0, number].tolist()},
                **{"exposure_bias": exposure.bias[0, number].tolist()},
            }
        )
    write_json(path, {"camera_model": "OPENCV", "frames": frames})


def _by_view(views: ViewSource, before: list[dict[str, float]], after: list[dict[str, float]]) -> list[dict[str, Any]]:
    return [{"name": name, "before": b, "after": a} for name, b, a in zip(views.names, before, after, strict=True)]


def _check_writable(settings: RefineSettings) -> None:
    """A folder that cannot be written to is better found now than after the work."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        probe = settings.out / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RefineError(f"{settings.out} cannot be written to ({error.strerror}); give another --out.") from error
