"""The figures of the demonstration's page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from diff3r_plugin.demo.results import TITLES, Comparison, Training
from diff3r_plugin.report.svg_figure import INK, add_legend, as_svg, new_axes, use_logarithmic_axis

COLORS = {"plain": "#8a8f98", "plain_equal_time": "#d29922", "diff3r": "#2f81f7"}


def training_figure(trainings: Mapping[str, Training], metric: str) -> str:
    """``loss/total`` or ``train/psnr`` by host step, smoothed, one line per training."""
    figure, axes = new_axes()
    for name, title in TITLES.items():
        curves = trainings[name].curves
        pairs = [(s, v) for s, v in zip(curves["step"], curves[metric], strict=True) if math.isfinite(v)]
        if pairs:
            steps, values = zip(*pairs, strict=True)
            axes.plot(steps, smoothed(values), color=COLORS[name], label=title, linewidth=1.6)
    if metric == "loss/total":
        axes.set_title("Training loss")
        use_logarithmic_axis(axes)
    else:
        axes.set_title("PSNR in training, dB (Diff3R: after refinement)")
    axes.set_xlabel("host step")
    add_legend(axes)
    return as_svg(figure)


def energy_figure(comparison: Comparison) -> str:
    """Energy by inner step, relative to the start: every scene thin, the geometric mean bold."""
    figure, axes = new_axes()
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
    use_logarithmic_axis(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(axes)
    return as_svg(figure)


def difference_figure(comparison: Comparison) -> str:
    """PSNR after refinement, Diff3R minus plain, one bar per scene, sorted."""
    figure, axes = new_axes()
    pairs = zip(comparison.tests["diff3r"].after.psnr, comparison.tests["plain"].after.psnr, strict=True)
    differences = sorted((a - b for a, b in pairs), reverse=True)
    colors = [COLORS["diff3r"] if d >= 0 else COLORS["plain_equal_time"] for d in differences]
    axes.bar(range(1, len(differences) + 1), differences, color=colors, width=0.75)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title("PSNR after refinement: Diff3R minus plain, dB")
    axes.set_xlabel("held-out scenes, sorted")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_svg(figure)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over an eighth of the curve, without delay."""
    reach = max(len(values) // 16, 0)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def relative(energy: Sequence[float]) -> list[float]:
    """An energy curve divided by its start; empty where it has none."""
    known = [value for value in energy if math.isfinite(value) and value > 0]
    return [value / known[0] for value in known]
