"""What the demonstration found: per-scene scores, their means and errors, the table."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from diff3r_plugin.mean_and_error import MeanAndError

RUNS = {"plain": "plain", "plain_equal_time": "plain, equal time", "diff3r": "Diff3R"}
"""Names in ``results.json`` and in the table."""

METRICS = ("psnr", "ssim")


def read_scores(path: Path) -> dict[str, Any]:
    """The scores of one test with the plugin (``diff3r_scores.json``), as they stand in ``results.json``.

    Returns:
        ``before`` and ``after`` (each ``psnr`` and ``ssim``, a list over scenes), ``tto_seconds``, ``energy``,
        ``outcomes`` per scene, and ``scenes``, all in the order of the scenes' names.
    """
    entries = sorted(json.loads(path.read_text())["scenes"], key=lambda entry: entry["scene"])
    return {
        **{side: {metric: [e[side][metric] for e in entries] for metric in METRICS} for side in ("before", "after")},
        "context_psnr": {side: [e[side]["psnr_context"] for e in entries] for side in ("before", "after")},
        "tto_seconds": [e["seconds"] for e in entries],
        "energy": [e["energy"] for e in entries],
        "stationarity": [e["stationarity"] for e in entries],
        "outcomes": [e["outcome"] for e in entries],
        "scenes": [e["scene"] for e in entries],
    }


def paired_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Mean and standard error over scenes of first minus second, both after refinement."""
    result = {}
    for metric in METRICS:
        pairs = zip(first["after"][metric], second["after"][metric], strict=True)
        result[metric] = asdict(MeanAndError.of([a - b for a, b in pairs]))
    return result


def table_rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table: one row per trained model."""
    heading = ["training", "train s", "PSNR before", "PSNR after", "SSIM before", "SSIM after", "TTO s/scene"]
    rows = []
    for key, title in RUNS.items():
        if key not in results:
            continue
        run = results[key]
        scores = [
            MeanAndError.of(run[side][metric]).text(digits)
            for metric, digits in (("psnr", 2), ("ssim", 4))
            for side in ("before", "after")
        ]
        seconds = MeanAndError.of(run["tto_seconds"]).mean
        rows.append([title, f"{run['train_seconds']:.0f}", *scores, f"{seconds:.2f}"])
    return heading, rows


def console_table(results: dict[str, Any], title: str) -> Table:
    """The table for the console."""
    heading, rows = table_rows(results)
    table = Table(title=f"Before and after test-time optimization (TTO), mean ± standard error over {title}")
    for index, name in enumerate(heading):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def difference_lines(results: Mapping[str, Any]) -> list[str]:
    """The paired differences in words."""
    lines = []
    for key, entry in results["paired_difference"].items():
        psnr, ssim = (MeanAndError.read(entry[m]) for m in METRICS)
        lines.append(
            f"Diff3R after minus {RUNS[key]} after, per scene: PSNR {psnr.text(2, True)} dB, SSIM {ssim.text(4, True)}"
        )
    return lines


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in ("diff3r-plugin", "torch", "lightning", "hydra-core", "jaxtyping", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
