"""Figures as SVG that takes its text color from the page around it, light or dark."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

INK = "#0a0b0c"
"""Stands for the page's text color, light or dark."""


def new_axes() -> tuple[Figure, Any]:
    """An empty figure of a third of the page's width, without a background of its own."""
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


def use_logarithmic_axis(axes: Any) -> None:
    """A logarithmic axis with plain numbers at its ticks."""
    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda value, position: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))


def add_legend(axes: Any) -> None:
    """A legend, if anything in the figure has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def as_svg(figure: Figure) -> str:
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
