"""Writes the page about a host's test with the plugin."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.plugin.scoring.scores import METRICS
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.report import run_figures
from diff3r_plugin.report.headline import Headline
from diff3r_plugin.report.refined_scene import as_test_run, both_states, rounds_of
from diff3r_plugin.report.run_folder import EvaluationRun, ReportError, SceneRecord, as_mapping
from diff3r_plugin.report.scene_images import SceneImages
from diff3r_plugin.report.shown_scene import Scales, ShownScene, spread


@dataclass(frozen=True)
class Column:
    """A metric: its key, its title and its digits."""

    key: str
    title: str
    digits: int

    @classmethod
    def of(cls, key: str) -> Column:
        """The column of a metric; one that is not known here goes by its key."""
        title, digits = METRICS.get(key, (key.replace("_", " "), 4))
        return cls(key, title, digits)

    def summary(self, scenes: list[SceneRecord]) -> list[str]:
        """Mean with standard error over all scenes: before, after, gain."""
        values = ([s.before[self.key] for s in scenes], [s.after[self.key] for s in scenes])
        gains = [scene.gain(self.key) for scene in scenes]
        return [
            *(MeanAndError.of(side).text(self.digits) for side in values),
            MeanAndError.of(gains).text(self.digits, sign=True),
        ]


def write_run_page(
    folder: Path | str, page: Path | None = None, *, scenes: int = 12, views: int = 3, interactive: int = 4
) -> Path:
    """Write one HTML page with everything inside; returns its path.

    Args:
        folder: What a test wrote to, or a folder above it.
        page: Where to; by default ``diff3r_report.html`` beside the scores.
        scenes: How many scenes are shown with images, spread evenly from the largest to the smallest gain.
        views: How many target views are shown of each.
        interactive: How many of them can be seen in 3D.

    Raises:
        ReportError: if there are no scores.
    """
    run = as_test_run(EvaluationRun.read(folder))
    shown = _shown(run, scenes, views, interactive)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diff3r_plugin.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = _number
    environment.filters["as_written"] = lambda name: Markup(environment.loader.get_source(environment, name)[0])  # type: ignore[union-attr]
    text = environment.get_template("run.html.j2").render(
        run=run,
        headline=Headline.of(run.scenes, run.unit, run.judged),
        facts=_facts(run),
        columns=[Column.of(key) for key in run.metrics()],
        figures=_figures(run),
        shown=shown.scenes,
        scales=shown.scales,
        advice=_advice(run, shown),
        splats={f"splats-{n}": asdict(s.splats) for n, s in enumerate(shown.scenes) if s.splats is not None},
        settings=_settings(run),
    )
    page = page or run.source.parent / "diff3r_report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(page) as file:
        file.write(text.encode())
    return page


def _figures(run: EvaluationRun) -> list[Markup]:
    energies, step = [scene.energy for scene in run.scenes], "inner step"
    if run.unit == "view":
        energies, step = rounds_of(run), "before and after each round"
    drawn = [run_figures.gains_figure(run.scenes, run.unit), run_figures.energy_figure(energies, step)]
    if sweep := _sweep(run):
        drawn.append(run_figures.sweep_figure(sweep))
    return [Markup(svg) for svg in drawn]


def _sweep(run: EvaluationRun) -> list[dict[str, Any]]:
    """Mean scores by number of steps, where the test tried several."""
    sweep = run.header.get("sweep")
    points = [point for point in sweep if isinstance(point, dict)] if isinstance(sweep, list) else []
    needed, metrics = {"mean", "standard_error"}, ("psnr", "psnr_context")
    whole = [point for point in points if all(needed <= as_mapping(point.get(name)).keys() for name in metrics)]
    return [point for point in whole if isinstance(point.get("steps"), int)]


@dataclass(frozen=True)
class _Shown:
    scenes: list[ShownScene]
    scales: Scales
    unreadable: list[str]


def _shown(run: EvaluationRun, count: int, views: int, interactive: int) -> _Shown:
    """The scenes with images, the largest gain first, on color scales that all of them share."""
    with_images = [scene for scene in run.scenes if scene.folder is not None]
    ranked = sorted(with_images, key=lambda s: -s.gain("psnr") if math.isfinite(s.gain("psnr")) else math.inf)
    pairs, unreadable = [], []
    for record in (ranked[index] for index in spread(len(ranked), count)):
        assert record.folder is not None
        try:
            images = SceneImages.read(record.folder, run.settings, record.stem)
        except ReportError as error:
            unreadable.append(str(error))
        else:
            if images.after:
                pairs.append((record, images))
    if pairs and run.unit == "view" and interactive and (states := both_states(run)) is not None:
        record, images = pairs[0]  # one scene: its first view takes it along
        pairs[0] = (record, replace(images, gaussians=states[:2], camera=states[2]))
    scales = Scales.of([images for _, images in pairs], views)
    with_scene = [n for n, (_, images) in enumerate(pairs) if images.gaussians is not None]
    walked = {with_scene[n] for n in spread(len(with_scene), interactive)}
    scenes = [ShownScene.of(record, images, scales, views, n in walked) for n, (record, images) in enumerate(pairs)]
    return _Shown(scenes, scales, unreadable)


def _facts(run: EvaluationRun) -> list[tuple[str, str]]:
    """What was tested, for the line below the headline."""
    header, settings = run.header, run.settings
    known = {
        "host": header.get("adapter"),
        "checkpoint": _path(header.get("checkpoint")),
        "solver": f"{settings['inner_steps']} {settings.get('inner_solver', '')} steps"
        if "inner_steps" in settings
        else None,
        "weights": {"learned": "predicted by the head", "fixed": "one per group"}.get(str(header.get("head"))),
        "pixel weights": {"learned": "predicted"}.get(str(header.get("confidence"))),
        "Gaussians": f"{header['gaussians']:,}" if isinstance(header.get("gaussians"), int) else None,
        "plugin": header.get("version"),
        "written": datetime.fromtimestamp(run.source.stat().st_mtime).strftime("%Y-%m-%d %H:%M"),
    }
    facts = [(name, str(value)) for name, value in known.items() if value]
    if header.get("head") == "learned" and header.get("head_from_checkpoint") is False:
        facts.append(("careful", "the checkpoint had no trained head: its weights are the starting values"))
    return facts


def _path(checkpoint: Any) -> Any:
    """Of a checkpoint that is recorded with more than its path."""
    return checkpoint.get("path") if isinstance(checkpoint, dict) else checkpoint


def _advice(run: EvaluationRun, shown: _Shown) -> str:
    """How to get what the page lacks."""
    if shown.unreadable:
        return f"These scenes cannot be shown, for their files cannot be read: {'; '.join(shown.unreadable)}"
    if not shown.scenes:
        return (
            "This test wrote no images. Run it with diff3r.save_pictures=true diff3r.save_scenes=true to see the "
            "renderings, the maps and the scenes in 3D here."
        )
    if all(scene.splats is None for scene in shown.scenes) and run.unit == "view":
        return "The scene cannot be shown in 3D: what it was refined from is no longer where it was."
    if all(scene.splats is None for scene in shown.scenes):
        return "To see the scenes in 3D here, run the test with diff3r.save_scenes=true."
    return ""


def _settings(run: EvaluationRun) -> list[tuple[str, str, bool]]:
    """Every effective setting: key, value, and whether it differs from the default."""
    default = asdict(PluginSettings())
    default |= default.pop("tto")
    prefix, found = "diff3r." if run.unit == "scene" else "", []
    for key, value in run.settings.items():
        value = tuple(value) if isinstance(value, list) else value
        usual = dict(default[key]) if isinstance(default.get(key), dict) else default.get(key)
        changed = key in default and key != "version" and value != usual
        found.append((f"{prefix}{key}", _text(value), changed))
    return found


def _text(value: Any) -> str:
    """A setting as one types it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_text(v)}' for k, v in value.items())}}}"
    return str(value) if value != "" else '""'


def _number(value: Any, digits: int, sign: bool = False) -> str:
    """A number with so many digits; a dash where it is not known."""
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"
