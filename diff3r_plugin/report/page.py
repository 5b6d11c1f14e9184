"""Writes ``report.html`` from ``results.json`` and the pictures of a run of the demonstration."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from diff3r_plugin.demo.results import RUNS, difference_lines, table_rows
from diff3r_plugin.report import figures

PICTURED = ("plain", "diff3r")


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page.

    Args:
        source: ``data:`` URL.
        caption: What it shows.
    """

    source: str
    caption: str


@dataclass(frozen=True)
class PicturedScene:
    """The pictures of one test scene.

    Args:
        name: The scene.
        summary: Its figures in words.
        views: Context views and ground truth.
        rows: Per training: its title and the pictures before, after and of the errors.
        weights: Proximal-weight maps of Diff3R, and its confidence in the context views where it learned one.
    """

    name: str
    summary: str
    views: list[Picture]
    rows: list[tuple[str, list[Picture]]]
    weights: list[Picture]


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` beside ``results.json``; everything it shows is inside the one file.

    Args:
        folder: Output folder of ``diff3r demo``.

    Raises:
        FileNotFoundError: without ``results.json``.
    """
    folder = Path(folder)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    count = int(results["settings"]["pictured_scenes"])
    sections = [_section("Held-out rooms", results, folder, "test", count)]
    for name, tested in results.get("also", {}).items():
        sections.append(_section(f"Further data: {name}", tested, folder, f"test_{name}", count))
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = resources.files("diff3r_plugin.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        results=results,
        sections=sections,
        titles=RUNS,
        training=[_safe(figures.training_figure(results, RUNS, m)) for m in ("loss/total", "train/psnr")],
        energy=_safe(figures.energy_figure(results, RUNS)),
        grids=_grids(results),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _section(title: str, results: Mapping[str, Any], folder: Path, kind: str, count: int) -> dict[str, Any]:
    heading, rows = table_rows(results)
    return {
        "title": title,
        "heading": heading,
        "rows": rows,
        "differences": difference_lines(results),
        "difference_figure": _safe(figures.difference_figure(results)),
        "count": len(results["scenes"]),
        "scenes": [_scene(results, index, folder, kind) for index in chosen(results, count)],
    }


def chosen(results: Mapping[str, Any], count: int) -> list[int]:
    """Scenes to show: evenly spread from the largest to the smallest difference between the trainings."""
    pairs = zip(results["diff3r"]["after"]["psnr"], results["plain"]["after"]["psnr"], strict=True)
    differences = [a - b for a, b in pairs]
    ranked = sorted(range(len(differences)), key=lambda i: -differences[i])
    count = min(count, len(ranked))
    if count <= 1:
        return ranked[: max(count, 0)]
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def _scene(results: Mapping[str, Any], index: int, folder: Path, kind: str) -> PicturedScene:
    name = results["scenes"][index]
    places = {run: folder / "runs" / run / kind / "diff3r" / name for run in PICTURED}
    views = len(list(places["diff3r"].glob("target_*_truth.png")))
    view = views // 2
    psnr = {run: {side: results[run][side]["psnr"][index] for side in ("before", "after")} for run in PICTURED}
    rows = []
    for run in PICTURED:
        shown = (
            (f"target_{view}_before.png", "before"),
            (f"target_{view}_after.png", "after"),
            (f"target_{view}_error_before.png", "error before"),
            (f"target_{view}_error_after.png", "error after"),
        )
        title = f"{RUNS[run]}: {psnr[run]['before']:.2f} dB before, {psnr[run]['after']:.2f} dB after"
        rows.append((title[0].upper() + title[1:], _pictures(places[run], shown)))
    contexts = sorted(places["diff3r"].glob("context_*.png"))
    shown_views = [(path.name, f"context {number + 1}") for number, path in enumerate(contexts)]
    ranges = places["diff3r"] / "weight_ranges.json"
    spans = json.loads(ranges.read_text()) if ranges.is_file() else {}
    weights = []
    for path in sorted(places["diff3r"].glob("weight_*_0.png")):
        group = path.stem.removeprefix("weight_").rpartition("_")[0]
        low, high = spans.get(group, (None, None))
        span = "" if low is None else f", {low:.2g} to {high:.2g}"
        weights += _pictures(places["diff3r"], ((path.name, f"{group}{span}"),))
    maps = sorted(places["diff3r"].glob("confidence_*.png"))
    weights += _pictures(places["diff3r"], tuple((p.name, f"confidence, context {n + 1}") for n, p in enumerate(maps)))
    difference = psnr["diff3r"]["after"] - psnr["plain"]["after"]
    return PicturedScene(
        name,
        f"Diff3R minus plain after refinement: {difference:+.2f} dB over {views} target views; one of them is shown",
        _pictures(places["diff3r"], (*shown_views, (f"target_{view}_truth.png", "ground truth"))),
        rows,
        weights,
    )


def _pictures(folder: Path, shown: tuple[tuple[str, str], ...]) -> list[Picture]:
    found = []
    for name, caption in shown:
        path = folder / name
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            found.append(Picture(f"data:image/png;base64,{data}", caption))
    return found


def _grids(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The searches, best first."""
    grids = []
    for name, grid in results.get("grid", {}).items():
        points = sorted(grid["points"], key=lambda point: -point["psnr"])
        grids.append({"title": RUNS[name], "groups": list(points[0]["weights"]), "points": points, **_rest(grid)})
    return grids


def _rest(grid: Mapping[str, Any]) -> dict[str, Any]:
    return {"psnr_before": grid["psnr_before"], "scenes": len(grid["scenes"])}


def _safe(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)
