"""Picture scores and the before / after record of a host's test."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diff3r_plugin.picture_quality import psnr, ssim

__all__ = ["TestRecord", "psnr", "ssim"]


@dataclass
class TestRecord:
    """Scores of every tested scene before and after refinement.

    ``entries`` holds per scene: ``scene``, ``before`` and ``after`` (each psnr, ssim on the targets and
    psnr_context), and what the solver said (seconds, stationarity, fell_back, ...).
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, scene: str, before: dict[str, float], after: dict[str, float], solver: dict[str, Any]) -> None:
        """Add one scene."""
        self.entries.append({"scene": scene, "before": before, "after": after, **solver})

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean and standard error over scenes of every score, before, after and of their difference."""
        result: dict[str, dict[str, dict[str, float]]] = {}
        for metric in self.entries[0]["before"] if self.entries else ():
            before = [entry["before"][metric] for entry in self.entries]
            after = [entry["after"][metric] for entry in self.entries]
            result[metric] = {
                "before": _mean_and_error(before),
                "after": _mean_and_error(after),
                "gain": _mean_and_error([a - b for a, b in zip(after, before, strict=True)]),
            }
        return result

    def table(self) -> str:
        """The table for the console: a line per scene, then the mean."""
        rows: list[tuple[str, ...]] = [
            ("scene", "PSNR before", "after", "SSIM before", "after", "context PSNR before", "after", "seconds")
        ]
        for entry in self.entries:
            b, a = entry["before"], entry["after"]
            rows.append((entry["scene"][:28], *_numbers(b, a, entry.get("seconds", math.nan))))
        means = self.summary()
        seconds = [entry.get("seconds", math.nan) for entry in self.entries]
        b, a = ({m: v[side]["mean"] for m, v in means.items()} for side in ("before", "after"))
        rows.append((f"mean of {len(self.entries)}", *_numbers(b, a, sum(seconds) / len(seconds))))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        rule = "-" * len(lines[0])
        return "\n".join([rule, lines[0], rule, *lines[1:-1], rule, lines[-1], rule])

    def write(self, path: Path, header: dict[str, Any]) -> None:
        """Write ``diff3r_scores.json``: the header (settings, checkpoint, version), the means and every scene."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**header, "mean": self.summary(), "scenes": self.entries}
        path.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")


def _numbers(before: dict[str, float], after: dict[str, float], seconds: float) -> tuple[str, ...]:
    return (
        f"{before['psnr']:.2f}",
        f"{after['psnr']:.2f}",
        f"{before['ssim']:.4f}",
        f"{after['ssim']:.4f}",
        f"{before['psnr_context']:.2f}",
        f"{after['psnr_context']:.2f}",
        f"{seconds:.2f}",
    )


def _mean_and_error(values: list[float]) -> dict[str, float]:
    values = [value for value in values if not math.isnan(value)]  # a scene without poses has no context score
    if not values:
        return {"mean": math.nan, "standard_error": math.nan}
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "standard_error": math.nan}
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return {"mean": mean, "standard_error": math.sqrt(variance / len(values))}


def _plain(value: Any) -> Any:
    """The value as strict JSON: no NaN, no infinities."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
