"""The record of a host's test: metrics of every scene before and after refinement."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.strict_json import write_json

__all__ = ["TestRecord", "psnr", "ssim"]


@dataclass
class TestRecord:
    """Scores of every tested scene before and after refinement.

    ``entries`` holds per scene: ``scene``, ``before`` and ``after`` (each ``psnr`` and ``ssim`` on the target views and
    ``psnr_context``), ``seconds``, ``outcome``, ``energy``, ``stationarity``, ``accepted_steps``, ``pcg_iterations``,
    ``renderer_agreement_psnr`` and, where poses were estimated, ``pose_inliers`` and errors of poses.
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
                "before": asdict(MeanAndError.of(before)),
                "after": asdict(MeanAndError.of(after)),
                "gain": asdict(MeanAndError.of([a - b for a, b in zip(after, before, strict=True)])),
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
        write_json(path, {**header, "mean": self.summary(), "scenes": self.entries})


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
