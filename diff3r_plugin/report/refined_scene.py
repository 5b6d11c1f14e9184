"""What ``diff3r refine`` left in its folder: one scene, judged view by view."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import FileError, read_splats
from diff3r_plugin.refine.inputs import StoredImages, read_inputs
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.report.run_folder import EvaluationRun, ReportError, SceneRecord, as_mapping, number, scores
from diff3r_plugin.views import Views


def as_test_run(run: EvaluationRun) -> EvaluationRun:
    """A refinement of one scene, with its views in place of scenes; any other run is returned as it is.

    Held-out views if there are any, else those that the refinement saw.
    """
    views = run.header.get("views")
    if "refine_seconds" not in run.header or not isinstance(views, Mapping):
        return run
    kind = "held_out" if views.get("held_out") else "context"
    images = run.source.parent / "images"
    records = []
    for view in map(as_mapping, views[kind] if isinstance(views.get(kind), list) else []):
        name = re.sub(r"[^\w.-]+", "_", str(view.get("name")).rpartition("/")[2])
        stem = f"{kind}_{name}"
        folder = images if (images / f"{stem}_after.png").is_file() else None
        sides = [scores(view.get(side)) for side in ("before", "after")]
        records.append(SceneRecord(str(view.get("name")), sides[0], sides[1], {}, folder, stem))
    if not records:
        raise ReportError(f"{run.source} has the scores of no view: run diff3r refine again.")
    judged = "held-out views" if kind == "held_out" else "context views"
    return EvaluationRun(run.source, run.header, records, "view", judged)


def rounds_of(run: EvaluationRun) -> list[list[float]]:
    """Energy before and after each round that changed something."""
    recorded = run.header.get("rounds")
    rounds = [as_mapping(entry) for entry in recorded] if isinstance(recorded, list) else []
    pairs = [[number(entry.get(f"energy_{side}")) for side in ("before", "after")] for entry in rounds]
    return [pair for pair in pairs if pair[0] > 0 and pair[1] > 0]


def both_states(run: EvaluationRun) -> tuple[Gaussians, Gaussians, Views] | None:
    """The scene before and after, and its first context camera; None where the inputs are no longer there."""
    refined = run.source.parent / "refined.npz"
    try:
        settings = _settings(run.header["settings"])
        inputs = read_inputs(settings)
        after = read_splats(refined, inputs.origin).gaussians  # the file is in the frame of the inputs
        return inputs.scene, after, StoredImages(inputs.context, inputs, settings).load([0])[0]
    except (OSError, KeyError, TypeError, ValueError, FileError, RefineError, ImportError):
        return None


def _settings(record: Mapping[str, Any]) -> RefineSettings:
    """The settings of a refinement from what it wrote down."""
    inner = {f.name for f in fields(TTOConfig) if f.init}
    layer: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["tto"].items() if k in inner}
    known = {f.name for f in fields(RefineSettings)} - {"tto"}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
    for name in ("scene", "out", "images"):
        given[name] = None if given.get(name) is None else Path(given[name])
    return RefineSettings(**given, tto=TTOConfig(**layer))
