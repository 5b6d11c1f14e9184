"""The record of a host's test: metrics of every scene before and after refinement."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.strict_json import write_json

METHODS = {"adam": "Adam, 3DGS rates"}
"""What ``diff3r.compare`` may name, and what tables call it."""

METRICS = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4), "psnr_context": ("context PSNR", 2)}
"""Metric -> its name in the table, and digits."""


@dataclass
class EvaluationRecord:
    """Scores of every tested scene before and after refinement.

    ``entries`` holds per scene: ``scene``, ``before`` and ``after`` (each ``psnr``, ``ssim`` and perhaps ``lpips`` on
    the target views and ``psnr_context``), ``steps``, ``seconds``, ``outcome``, ``energy``, ``stationarity``,
    ``accepted_steps``, ``pcg_iterations``, ``renderer_agreement_psnr``, where it was asked for ``sweep`` and
    ``compare``, and where poses were estimated ``pose_inliers`` and errors of poses.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    entries: list[dict[str, Any]] = field(default_factory=list)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that every scene has, in the order of the first."""
        every = [set(entry["before"]) & set(entry["after"]) for entry in self.entries]
        return [name for name in (self.entries[0]["before"] if self.entries else ()) if all(name in e for e in every)]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean and standard error over scenes of every score, before, after and of their difference."""
        result: dict[str, dict[str, dict[str, float]]] = {}
        for metric in self.metrics:
            before = [entry["before"][metric] for entry in self.entries]
            after = [entry["after"][metric] for entry in self.entries]
            result[metric] = {
                "before": asdict(MeanAndError.of(before)),
                "after": asdict(MeanAndError.of(after)),
                "gain": asdict(MeanAndError.of([a - b for a, b in zip(after, before, strict=True)])),
            }
        return result

    def sweep(self) -> list[dict[str, Any]]:
        """Means over scenes for every number of steps that all of them were refined with."""
        return self._by_steps("sweep")

    def compared(self) -> list[dict[str, Any]]:
        """The same of the method that the settings compare with (``diff3r.compare``)."""
        return self._by_steps("compare")

    def _by_steps(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        by_steps = [{row["steps"]: row for row in entry.get(kind) or ()} for entry in self.entries]
        for steps in by_steps[0] if by_steps else ():
            rows = [rows[steps] for rows in by_steps if steps in rows]
            if len(rows) == len(self.entries):
                means = {
                    name: asdict(MeanAndError.of([row[name] for row in rows]))
                    for name in (*self.metrics, "seconds", "energy")
                    if all(name in row for row in rows)
                }
                found.append({"steps": steps, **means})
        return found

    def table(self) -> str:
        """The table for the console: a line per scene, then the mean; a second one for other numbers of steps."""
        metrics = [name for name in METRICS if name in self.metrics]
        header = ["scene"]
        for name in metrics:
            header += [f"{METRICS[name][0]} before", "after"]
        rows = [[*header, "seconds"]]
        for entry in self.entries:
            numbers = _numbers(entry["before"], entry["after"], metrics)
            rows.append([entry["scene"][:28], *numbers, f"{entry.get('seconds', math.nan):.2f}"])
        means = self.summary()
        seconds = [entry.get("seconds", math.nan) for entry in self.entries]
        before, after = ({m: v[side]["mean"] for m, v in means.items()} for side in ("before", "after"))
        numbers = _numbers(before, after, metrics)
        rows.append([f"mean of {len(self.entries)}", *numbers, f"{sum(seconds) / len(seconds):.2f}"])
        lines = _aligned(rows)
        rule = "-" * len(lines[0])
        return "\n".join([rule, lines[0], rule, *lines[1:-1], rule, lines[-1], rule])

    def sweep_table(self) -> str:
        """The means for other numbers of steps, a line each; empty where there are none."""
        swept = self.sweep()
        if not swept:
            return ""
        metrics = [name for name in METRICS if name in swept[0]]
        rows = [["steps", *(METRICS[name][0] for name in metrics), "seconds"]]
        for row in swept:
            values = [f"{row[name]['mean']:.{METRICS[name][1]}f}" for name in metrics]
            rows.append([str(row["steps"]), *values, f"{row['seconds']['mean']:.2f}"])
        return "\n".join(_aligned(rows))

    def compare_table(self) -> str:
        """Both curves, ours and the compared method's, a line for each number of steps; empty without a comparison."""
        theirs = self.compared()
        if not theirs:
            return ""
        name = METHODS[self.entries[0]["compare"][0]["method"]]
        own = {"steps": self.entries[0]["steps"], **{m: values["after"] for m, values in self.summary().items()}}
        seconds = [entry.get("seconds", math.nan) for entry in self.entries]
        own["seconds"] = asdict(MeanAndError.of(seconds))
        others = [row for row in self.sweep() if row["steps"] != own["steps"]]
        ours = sorted([own, *others], key=lambda row: row["steps"])
        metrics = [name for name in METRICS if name in theirs[0]]
        rows = [["method", "steps", *(METRICS[name][0] for name in metrics), "seconds"]]
        for method, curve in (("ours", ours), (name, theirs)):
            for row in curve:
                values = [f"{row[name]['mean']:.{METRICS[name][1]}f}" for name in metrics]
                rows.append([method, str(row["steps"]), *values, f"{row['seconds']['mean']:.2f}"])
        return "\n".join(_aligned(rows))

    def write(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write ``diff3r_scores.json``, the header, the means and every scene, and the scenes as CSV beside it."""
        curves = {name: rows for name, rows in (("sweep", self.sweep()), ("compare", self.compared())) if rows}
        content = {**header, "mean": self.summary(), **curves, "scenes": self.entries}
        write_json(path, content)
        with atomic_write(path.with_suffix(".csv")) as file:
            file.write(self.csv().encode())

    def csv(self) -> str:
        """A line per scene; columns ``METRIC_before`` and ``METRIC_after``, ``METRIC_N_steps``, and single figures."""
        rows = [_flat(entry) for entry in self.entries]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"scene": entry["scene"]}
    for side in ("before", "after"):
        row |= {f"{name}_{side}": value for name, value in entry[side].items()}
    for swept in entry.get("sweep") or ():
        row |= {f"{name}_{swept['steps']}_steps": value for name, value in swept.items() if name in METRICS}
    for other in entry.get("compare") or ():
        at = f"{other['method']}_{other['steps']}_steps"
        row |= {f"{name}_{at}": value for name, value in other.items() if name in METRICS}
    row |= {name: value for name, value in entry.items() if not isinstance(value, (list, dict)) and name != "scene"}
    return {name: "" if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}


def _numbers(before: Mapping[str, float], after: Mapping[str, float], metrics: list[str]) -> list[str]:
    return [f"{side[name]:.{METRICS[name][1]}f}" for name in metrics for side in (before, after)]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
