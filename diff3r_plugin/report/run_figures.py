"""The figures of a test's page: gains of all scenes, and how their energy fell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.report.run_folder import SceneRecord
from diff3r_plugin.report.svg_figure import INK, add_legend, as_svg, new_axes, use_logarithmic_axis

BETTER, WORSE, SEEN = "#2f81f7", "#d29922", "#8a8f98"


def gains_figure(scenes: Sequence[SceneRecord], unit: str = "scene") -> str:
    """Gain in PSNR, one bar per scene (or whatever the unit is), sorted; SVG."""
    gains = sorted((g for scene in scenes if math.isfinite(g := scene.gain("psnr"))), reverse=True)
    figure, axes = new_axes()
    axes.bar(range(1, len(gains) + 1), gains, color=[BETTER if g >= 0 else WORSE for g in gains], width=0.75)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title("Gain in PSNR, dB")
    axes.set_xlabel(f"{unit}s, sorted")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_svg(figure)


def energy_figure(energies: Sequence[Sequence[float]], step: str = "inner step") -> str:
    """Energy by inner step, relative to the start: every curve thin, the geometric mean bold; SVG."""
    figure, axes = new_axes()
    curves = [curve for energy in energies if len(curve := relative(energy)) > 1]
    for curve in curves:
        axes.plot(range(len(curve)), curve, color=BETTER, alpha=max(0.05, min(0.4, 4 / len(curves))), linewidth=0.8)
    if curves:
        length = max(map(len, curves))
        padded = [[*curve, *[curve[-1]] * (length - len(curve))] for curve in curves]
        means = [math.exp(sum(map(math.log, column)) / len(column)) for column in zip(*padded, strict=True)]
        axes.plot(range(length), means, color=BETTER, linewidth=2.2, marker="o", markersize=4)
    axes.set_title("Energy of the context views, relative to the start")
    axes.set_xlabel(step)
    use_logarithmic_axis(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_svg(figure)


def sweep_figure(sweep: Sequence[Mapping[str, Any]]) -> str:
    """PSNR after several numbers of steps, with standard errors over the scenes; SVG."""
    figure, axes = new_axes()
    steps = [int(point["steps"]) for point in sweep]
    for key, label, color in (("psnr", "held-out views", BETTER), ("psnr_context", "context views", SEEN)):
        scores = [MeanAndError.read(point[key]) for point in sweep]
        errors = [0.0 if math.isnan(score.standard_error) else score.standard_error for score in scores]
        style = {"label": label, "color": color, "marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.8}
        axes.errorbar(steps, [score.mean for score in scores], yerr=errors, **style)
    axes.set_title("PSNR by number of steps, dB")
    axes.set_xlabel("inner steps")
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(axes)
    return as_svg(figure)


def relative(energy: Sequence[float]) -> list[float]:
    """An energy curve divided by its start, up to the first value that is not positive; empty where it has none."""
    known: list[float] = []
    for value in energy:
        if not value > 0:
            break
        known.append(value / energy[0])
    return known


def sparkline(energy: Sequence[float], width: float = 150.0, height: float = 44.0) -> str:
    """Points of an SVG polyline of one scene's energy, on a logarithmic axis from its start to its least value."""
    curve = relative(energy)
    if len(curve) < 2:
        return ""
    logs = [math.log(value) for value in curve]
    low, high = min(logs), max(logs)
    reach = high - low or 1.0
    points = ((i * width / (len(logs) - 1), (high - log) / reach * height) for i, log in enumerate(logs))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
