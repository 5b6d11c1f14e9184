"""Writes ``report.html`` from ``results.json`` and the images of a run of the demonstration."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.demo import figures
from diff3r_plugin.demo.grid import GridPoint
from diff3r_plugin.demo.results import TITLES, Comparison, DemoResults
from diff3r_plugin.demo.settings import TOO_SHORT
from diff3r_plugin.demo.table import difference_lines, table_rows

SHOWN = ("plain", "diff3r")
"""The trainings whose renderings are shown."""


@dataclass(frozen=True)
class ShownImage:
    """A PNG inside the page.

    Args:
        source: ``data:`` URL.
        caption: What it shows.
    """

    source: str
    caption: str


@dataclass(frozen=True)
class ShownScene:
    """The images of one test scene.

    Args:
        name: The scene.
        summary: Its figures, a sentence.
        views: Context views and ground truth.
        rows: Per training: its title and the renderings before, after and their errors.
        weights: Proximal-weight maps of Diff3R, and its confidence in the context views where it learned one.
    """

    name: str
    summary: str
    views: list[ShownImage]
    rows: list[tuple[str, list[ShownImage]]]
    weights: list[ShownImage]


@dataclass(frozen=True)
class Section:
    """The page's part on one data set.

    Args:
        title: Its heading.
        heading: Of the table of scores.
        rows: Of the table of scores.
        differences: Paired differences, a line each.
        difference_figure: They as bars, SVG.
        count: Scenes tested.
        scenes: Those that are shown.
    """

    title: str
    heading: list[str]
    rows: list[list[str]]
    differences: list[str]
    difference_figure: Markup
    count: int
    scenes: list[ShownScene]


@dataclass(frozen=True)
class SortedGrid:
    """A search on validation scenes, the best setting first."""

    title: str
    groups: list[str]
    points: list[GridPoint]
    psnr_before: float
    scenes: int


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` beside ``results.json``; everything it shows is inside the one file.

    Args:
        folder: Output folder of ``diff3r demo``.

    Raises:
        FileNotFoundError: without ``results.json``.
    """
    folder = Path(folder)
    results = DemoResults.load(folder / "results.json")
    count = int(results.settings["shown_scenes"])
    sections = [_section("Held-out rooms", results, results.rooms, folder, "test", count)]
    for name, comparison in results.also.items():
        sections.append(_section(f"Further data: {name}", results, comparison, folder, f"test_{name}", count))
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = resources.files("diff3r_plugin.demo").joinpath("page.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        results=results,
        too_short=TOO_SHORT if results.settings["quick"] else "",
        sections=sections,
        training=[Markup(figures.training_figure(results.trainings, m)) for m in ("loss/total", "train/psnr")],
        energy=Markup(figures.energy_figure(results.rooms)),
        grids=_grids(results),
    )
    path = folder / "report.html"
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


def _section(title: str, results: DemoResults, comparison: Comparison, folder: Path, kind: str, count: int) -> Section:
    heading, rows = table_rows(comparison, results.trainings)
    return Section(
        title=title,
        heading=heading,
        rows=rows,
        differences=difference_lines(comparison),
        difference_figure=Markup(figures.difference_figure(comparison)),
        count=len(comparison.scenes),
        scenes=[_scene(comparison, index, folder, kind) for index in chosen(comparison, count)],
    )


def chosen(comparison: Comparison, count: int) -> list[int]:
    """Scenes to show: evenly spread from the largest to the smallest difference between the trainings."""
    pairs = zip(comparison.tests["diff3r"].after.psnr, comparison.tests["plain"].after.psnr, strict=True)
    differences = [a - b for a, b in pairs]
    ranked = sorted(range(len(differences)), key=lambda i: -differences[i])
    count = min(count, len(ranked))
    if count <= 1:
        return ranked[: max(count, 0)]
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def _scene(comparison: Comparison, index: int, folder: Path, kind: str) -> ShownScene:
    name = comparison.scenes[index]
    places = {run: folder / "runs" / run / kind / "diff3r" / name for run in SHOWN}
    views = len(list(places["diff3r"].glob("target_*_truth.png")))
    view = views // 2
    before = {run: comparison.tests[run].before.psnr[index] for run in SHOWN}
    after = {run: comparison.tests[run].after.psnr[index] for run in SHOWN}
    rows = []
    for run in SHOWN:
        shown = (
            (f"target_{view}_before.png", "before"),
            (f"target_{view}_after.png", "after"),
            (f"target_{view}_error_before.png", "error before"),
            (f"target_{view}_error_after.png", "error after"),
        )
        title = f"{TITLES[run]}: {before[run]:.2f} dB before, {after[run]:.2f} dB after"
        rows.append((title[0].upper() + title[1:], _images(places[run], shown)))
    contexts = sorted(places["diff3r"].glob("context_*.png"))
    shown_views = [(path.name, f"context {number + 1}") for number, path in enumerate(contexts)]
    return ShownScene(
        name,
        f"Diff3R minus plain after refinement: {after['diff3r'] - after['plain']:+.2f} dB over {views} target views; "
        "one of them is shown",
        _images(places["diff3r"], (*shown_views, (f"target_{view}_truth.png", "ground truth"))),
        rows,
        _weights(places["diff3r"]),
    )


def _weights(folder: Path) -> list[ShownImage]:
    """Weight maps of the first context view, each with its range, and confidence maps of all."""
    ranges = folder / "weight_ranges.json"
    spans = json.loads(ranges.read_text(encoding="utf-8")) if ranges.is_file() else {}
    shown = []
    for path in sorted(folder.glob("weight_*_0.png")):
        group = path.stem.removeprefix("weight_").rpartition("_")[0]
        shown.append((path.name, f"{group}, {_range(spans[group])}" if group in spans else group))
    confidences = sorted(folder.glob("confidence_*.png"))
    shown += [(path.name, f"confidence, context {number + 1}") for number, path in enumerate(confidences)]
    return _images(folder, tuple(shown))


def _range(ends: dict[str, float]) -> str:
    """The values of a map, and what its colors mean."""
    least, largest, black, white = (f"{ends[name]:.2g}" for name in ("least", "largest", "black", "white"))
    values = f"{least} everywhere" if least == largest else f"{least} to {largest}"
    return f"{values} (black {black}, white {white})"


def _images(folder: Path, shown: tuple[tuple[str, str], ...]) -> list[ShownImage]:
    found = []
    for name, caption in shown:
        path = folder / name
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            found.append(ShownImage(f"data:image/png;base64,{data}", caption))
    return found


def _grids(results: DemoResults) -> list[SortedGrid]:
    grids = []
    for name, grid in results.grids.items():
        points = sorted(grid.points, key=lambda point: -point.psnr)
        grids.append(SortedGrid(TITLES[name], list(points[0].weights), points, grid.psnr_before, len(grid.scenes)))
    return grids
