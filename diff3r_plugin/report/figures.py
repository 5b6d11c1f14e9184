"""The page's figures, as SVG that takes its text color from the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from diff3r_plugin.demo.results import TITLES, Comparison, Training

INK = "#0a0b0c"
"""Stands for the page's text color, light or dark."""

COLORS = {"plain": "#8a8f98", "plain_equal_time": "#d29922", "diff3r": "#2f81f7"}


def training_figure(trainings: Mapping[str, Training], metric: str) -> str:
    """``loss/total`` or ``train/psnr`` by host step, smoothed, one line per training."""
    figure, axes = _axes()
    for name, title in TITLES.items():
        curves = trainings[name].curves
        pairs = [(s, v) for s, v in zip(curves["step"], curves[metric], strict=True) if math.isfinite(v)]
        if pairs:
            steps, values = zip(*pairs, strict=True)
            axes.plot(steps, smoothed(values), color=COLORS[name], label=title, linewidth=1.6)
    if metric == "loss/total":
        axes.set_title("Training loss")
        _logarithmic(axes)
    else:
        axes.set_title("PSNR in training, dB (Diff3R: after refinement)")
    axes.set_xlabel("host step")
    _legend(axes)
    return _svg(figure)


def energy_figure(comparison: Comparison) -> str:
    """Energy by inner step, relative to the start: every scene thin, the geometric mean bold."""
    figure, axes = _axes()
    for name, title in TITLES.items():
        scenes = [scene for energy in comparison.tests[name].energy if (scene := relative(energy))]
        for scene in scenes:
            axes.plot(range(len(scene)), scene, color=COLORS[name], alpha=0.22, linewidth=0.8)
        if scenes:
            length = max(map(len, scenes))
            padded = [[*scene, *[scene[-1]] * (length - len(scene))] for scene in scenes]
            means = [math.exp(sum(map(math.log, column)) / len(column)) for column in zip(*padded, strict=True)]
            axes.plot(range(length), means, color=COLORS[name], linewidth=2.2, marker="o", markersize=4, label=title)
    axes.set_title("Energy of the context views, relative to the start")
    axes.set_xlabel("inner step")
    _logarithmic(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(axes)
    return _svg(figure)


def difference_figure(comparison: Comparison) -> str:
    """PSNR after refinement, Diff3R minus plain, one bar per scene, sorted."""
    figure, axes = _axes()
    pairs = zip(comparison.tests["diff3r"].after.psnr, comparison.tests["plain"].after.psnr, strict=True)
    differences = sorted((a - b for a, b in pairs), reverse=True)
    colors = [COLORS["diff3r"] if d >= 0 else COLORS["plain_equal_time"] for d in differences]
    axes.bar(range(1, len(differences) + 1), differences, color=colors, width=0.75)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title("PSNR after refinement: Diff3R minus plain, dB")
    axes.set_xlabel("held-out scenes, sorted")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over an eighth of the curve, without delay."""
    reach = max(len(values) // 16, 0)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def relative(energy: Sequence[float]) -> list[float]:
    """An energy curve divided by its start; empty where it has none."""
    known = [value for value in energy if math.isfinite(value) and value > 0]
    return [value / known[0] for value in known]


def _axes() -> tuple[Figure, Any]:
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "diff3r",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.18,
        **{f"{name}.color": INK for name in ("text", "xtick", "ytick", "grid")},
        **{f"axes.{name}": INK for name in ("labelcolor", "edgecolor", "titlecolor")},
    }
    matplotlib.rcParams.update(style)
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis with plain numbers at its ticks."""
    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda value, position: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _svg(figure: Figure) -> str:
    """The figure for use inside of HTML: no prologue, no links, ink in the page's color."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r'<svg role="img" \1', text, count=1)
    return text.replace(INK, "currentColor")
