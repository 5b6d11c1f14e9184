"""A stand-alone refinement from files to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin import __version__
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import Outcome
from diff3r_plugin.io import write_npz, write_ply
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.optimize.gauss_newton import LARGEST_DAMPING
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.refine.checkpoint import Checkpoint, Checkpoints
from diff3r_plugin.refine.inputs import Inputs, loaded, pixel_weights, read_inputs
from diff3r_plugin.refine.pictures import write_pictures
from diff3r_plugin.refine.plan import Plan, make_plan
from diff3r_plugin.refine.plausibility import tell_of_doubt
from diff3r_plugin.refine.progress import Progress
from diff3r_plugin.refine.scoring import mean_scores, score_views
from diff3r_plugin.refine.settings import ROUNDS_OF_MANY, RefineError, RefineSettings
from diff3r_plugin.refine.split import views_of_round
from diff3r_plugin.render import resolve_backend
from diff3r_plugin.strict_json import write_json

RAISE, FAILURES = 8.0, 3
"""Of the damping after a round in which no step lowered the energy; after so many in a row it begins anew."""

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
        resume: Go on where the run in ``settings.out`` was interrupted; without one, start.
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
    many = len(inputs.context) > settings.views_per_round or settings.scene is None
    plan = make_plan(inputs, settings, ROUNDS_OF_MANY if many else 1)
    identity = {key: value for key, value in settings.record().items() if key not in NOT_IDENTITY}
    checkpoints = Checkpoints(settings.out, {**identity, "inputs": inputs.fingerprint(), "version": __version__})
    if checkpoints.exists() and not resume:
        raise RefineError(f"{settings.out} has a refinement already: give --resume to continue it, or another --out.")
    started = checkpoints.load() if checkpoints.exists() else Checkpoint(inputs.scene, [])
    _check_writable(settings)
    progress.begin(inputs, plan, len(started.rounds))
    before = {kind: score_views(inputs.scene, images, inputs, settings) for kind, images in _kinds(inputs).items()}
    if settings.scene is not None:
        tell_of_doubt(inputs, settings, before["context"])
    try:
        state = run_rounds(started, inputs, plan, settings, checkpoints, progress, after_round)
    finally:
        progress.close()
    after = {kind: score_views(state.scene, images, inputs, settings) for kind, images in _kinds(inputs).items()}
    metrics = {
        "version": __version__,
        "torch": torch.__version__,
        "backend": resolve_backend(settings.tto.backend, settings.device),
        "threads": torch.get_num_threads(),
        "settings": settings.record(),
        "gaussians": inputs.scene.num_gaussians,
        "sh_degree": inputs.scene.sh_degree,
        "image_size": list(inputs.size),
        "memory_estimate_gib": plan.needed / (1 << 30),
        "before": {kind: mean_scores(scores) for kind, scores in before.items()},
        "after": {kind: mean_scores(scores) for kind, scores in after.items()},
        "views": {
            kind: [
                {"name": name, "before": b, "after": a}
                for name, b, a in zip(images.names, before[kind], after[kind], strict=True)
            ]
            for kind, images in _kinds(inputs).items()
        },
        "rounds": state.rounds,
        "refine_seconds": sum(entry["seconds"] for entry in state.rounds),
    }
    write_scene(settings.out, state.scene, inputs)
    write_pictures(inputs, state.scene, settings)
    write_json(settings.out / "metrics.json", metrics)
    progress.end(metrics)
    return RefineResult(state.scene, metrics)


def run_rounds(
    state: Checkpoint,
    inputs: Inputs,
    plan: Plan,
    settings: RefineSettings,
    checkpoints: Checkpoints,
    progress: Progress,
    after_round: Callable[[int], None] | None,
) -> Checkpoint:
    """The rounds that are still to do, each with its checkpoint.

    Raises:
        RefineError: if the layer can do nothing with the scene or the views.
    """
    weights = ProximalWeights.of(settings.all_weights())
    for number in range(len(state.rounds), plan.rounds):
        chosen = views_of_round(len(inputs.context), settings.views_per_round, number, settings.seed)
        started = time.perf_counter()
        damping = first_damping(settings.tto.damping, state.rounds)
        layer = TTOLayer(replace(settings.tto, damping=damping), warn_of_fallbacks=False)
        views = loaded(inputs.context, chosen, inputs, settings)
        with torch.no_grad():
            scene, info = layer(
                state.scene.to(views.device), views, weights, pixel_weights(inputs.context, chosen, inputs, settings)
            )
        (outcome,) = info.outcomes
        if outcome in (Outcome.INVALID_GAUSSIANS, Outcome.INVALID_VIEWS):
            raise RefineError(
                f"Round {number + 1} could do nothing ({outcome}): {outcome.meaning}. Check the scene's scales and "
                "quaternions, and the cameras."
            )
        entry = {
            "round": number + 1,
            "views": [inputs.context.names[i] for i in chosen],
            "outcome": str(outcome),
            "energy_before": float(info.energy[0, 0]),
            "energy_after": float(info.energy[-1, 0]),
            "accepted_steps": int(info.accepted_steps[0]),
            "damping": damping,
            "seconds": time.perf_counter() - started,
        }
        state = Checkpoint(scene, [*state.rounds, entry])
        checkpoints.save(state)
        progress.round(entry)
        if after_round is not None:
            after_round(number + 1)
    return state


def write_scene(folder: Path, scene: Gaussians, inputs: Inputs) -> None:
    """``refined.ply`` and ``refined.npz`` in the frame of the files that the scene came from."""
    write_ply(folder / "refined.ply", scene, inputs.origin, inputs.rendering)
    if inputs.origin is not None:
        scene = scene.to(torch.float64)
        scene = replace(scene, means=scene.means + torch.tensor(inputs.origin, dtype=torch.float64))
    write_npz(folder / "refined.npz", scene)


def first_damping(given: float, rounds: Sequence[Mapping[str, Any]]) -> float:
    """The damping that the next round begins with: raised by every round whose steps all failed, lowered by others.

    A round begins anew, and would fail anew with the damping that the one before failed with. It follows from what is
    recorded of the rounds alone, so that a resumed run agrees.

    Example:
        >>> from diff3r_plugin.refine.pipeline import first_damping
        >>> [first_damping(1.0, [{"accepted_steps": n} for n in steps]) for steps in ((), (0, 0), (0, 0, 2), (0, 0, 0))]
        [1.0, 64.0, 32.0, 1.0]
    """
    damping, failures = given, 0
    for entry in rounds:
        failures = 0 if entry["accepted_steps"] else failures + 1
        if failures == FAILURES:  # it is not the length of the steps that fails: with more damping it would for good
            damping, failures = given, 0
        elif failures:
            damping = min(damping * RAISE, LARGEST_DAMPING)
        else:
            damping = max(damping / 2, given)
    return damping


def _kinds(inputs: Inputs) -> dict[str, Any]:
    return {"context": inputs.context, "held_out": inputs.held_out}


def _check_writable(settings: RefineSettings) -> None:
    """A folder that cannot be written to is better found now than after the work."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        probe = settings.out / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RefineError(f"{settings.out} cannot be written to ({error.strerror}); give another --out.") from error
