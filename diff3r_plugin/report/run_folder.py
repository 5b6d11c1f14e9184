"""What a test with the plugin left in its folder: scores of every scene, and where their images lie."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diff3r_plugin.errors import Diff3rError

SCORE_FILES = ("diff3r_scores.json", "diff3r_scores.jsonl", "scores.jsonl", "metrics.json")
"""Names of files with scores, the most complete kind first."""


class ReportError(Diff3rError):
    """A folder that no report can be made of; says which one, why, and what to do."""


@dataclass(frozen=True)
class SceneRecord:
    """Scores of one scene.

    Args:
        name: The scene.
        before: Metrics of the prediction: ``psnr`` (dB), ``ssim``, ``psnr_context`` and whatever else was measured;
            NaN where one is not known.
        after: The same of the refined scene.
        solver: What the solver reports: ``seconds``, ``outcome``, ``energy``, ``accepted_steps``, ...
        folder: Where its images and scenes lie; None where nothing was written.
        stem: Beginning of its images' names in a folder that holds those of several; "" where it has its own.
    """

    name: str
    before: dict[str, float]
    after: dict[str, float]
    solver: dict[str, Any]
    folder: Path | None
    stem: str = ""

    def gain(self, metric: str) -> float:
        """After minus before; NaN where the metric is not known."""
        return self.after.get(metric, math.nan) - self.before.get(metric, math.nan)

    @property
    def energy(self) -> list[float]:
        """Energy after each inner step, the start first; NaN and infinities left out."""
        recorded = self.solver.get("energy")
        values = map(number, recorded) if isinstance(recorded, list) else ()
        return [value for value in values if math.isfinite(value)]


@dataclass(frozen=True)
class EvaluationRun:
    """A test of a host with the plugin, or a stand-alone refinement.

    Args:
        source: The file that the scores were read from.
        header: What holds for all scenes: adapter, version, settings, ...
        scenes: In the order in which they were tested.
        unit: What each of them is: a scene of its own, or a view of the same one.
        judged: The views that the scores are of.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    source: Path
    header: dict[str, Any]
    scenes: list[SceneRecord]
    unit: str = "scene"
    judged: str = "held-out views"

    @classmethod
    def read(cls, folder: Path | str) -> EvaluationRun:
        """Read the scores in a folder, or in the one folder below it that has any.

        Raises:
            ReportError: if there are none, several to choose from, or a file that cannot be read.
        """
        source = _scores_file(Path(folder))
        if source.suffix == ".jsonl":
            lines = _json_lines(source)
            header = next((line for line in lines if "scene" not in line), {})
            entries = [line for line in lines if "scene" in line]
        else:
            header = _json(source)
            entries = _entries(header.pop("scenes", None) or ([header] if "before" in header else []), source)
            for other in sorted(source.parent.glob(f"{source.stem}_rank*{source.suffix}")):
                entries += _entries(_json(other).get("scenes") or [], other)
        latest: dict[str, dict[str, Any]] = {}
        for entry in entries:  # a scene that was scored again counts once; one that stands in the data twice, twice
            name, occurrence = str(entry.get("scene", source.parent.name)), number(entry.get("occurrence"))
            latest[f"{name} ({occurrence + 1:.0f})" if occurrence > 0 else name] = entry
        scenes = [_record(name, entry, source.parent) for name, entry in latest.items()]
        if not scenes:
            raise ReportError(f"{source} holds no scene: the test ended before its first scene was refined.")
        return cls(source, header, scenes)

    @property
    def settings(self) -> dict[str, Any]:
        """Every effective setting by its key without ``diff3r.``; the layer's among them."""
        settings = as_mapping(self.header.get("settings"))
        return {**{key: value for key, value in settings.items() if key != "tto"}, **as_mapping(settings.get("tto"))}

    def metrics(self) -> list[str]:
        """Names of the metrics that every scene has before and after, PSNR and SSIM first."""
        names = [
            name for name in self.scenes[0].before if all(name in s.before and name in s.after for s in self.scenes)
        ]
        order = ("psnr", "ssim", "lpips", "psnr_context")
        return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _scores_file(folder: Path) -> Path:
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise ReportError(f"there is no folder {folder}; give the one that the host's test wrote its scores to.")
    for place in ("", "*/", "*/*/", "*/*/*/"):
        found = [path for name in SCORE_FILES for path in sorted(folder.glob(f"{place}{name}")) if _is_ours(path)]
        folders = list(dict.fromkeys(path.parent for path in found))
        if len(folders) > 1:
            listed = "\n  ".join(str(path) for path in folders)
            raise ReportError(f"{folder} holds the scores of {len(folders)} tests; choose one of them:\n  {listed}")
        if found:
            return found[0]
    raise ReportError(
        f"no scores in {folder}, expected {SCORE_FILES[0]}. A host's test writes it beside its own scores when it "
        "runs with `--plugin diff3r`, or to the folder in diff3r.output."
    )


def _is_ours(path: Path) -> bool:
    """Whether a file is what its name says: other programs write a ``metrics.json``, too."""
    return path.name != "metrics.json" or '"refine_seconds"' in path.read_text(encoding="utf-8", errors="replace")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the test again.") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path} is not a file of scores: expected a JSON object, got {type(content).__name__}.")
    return content


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one may be cut off where the test was."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ReportError(f"{path}, line {number}, is not JSON ({error}).") from error
    return [line for line in found if isinstance(line, dict)]


def _entries(value: Any, source: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ReportError(f"{source} is damaged: 'scenes' is no list of scenes. Run the test again.")
    return value


def _record(name: str, entry: Mapping[str, Any], root: Path) -> SceneRecord:
    sides = [scores(entry.get(side)) for side in ("before", "after")]
    solver = {key: value for key, value in entry.items() if key not in ("scene", "before", "after")}
    places = (root / "diff3r" / name, root / name, root)
    folder = next((place for place in places if _has_images(place)), None)
    return SceneRecord(name, sides[0], sides[1], solver, folder)


def _has_images(place: Path) -> bool:
    return (place / "scene.pt").is_file() or any(place.glob("target_*_after.png"))


def scores(value: Any) -> dict[str, float]:
    """The numbers in a record of metrics; NaN where one is not known."""
    return {str(k): number(v) for k, v in as_mapping(value).items() if not isinstance(v, (Mapping, list, str))}


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float:
    """The value if it is a number, else NaN."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
