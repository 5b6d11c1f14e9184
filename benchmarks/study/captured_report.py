"""Tables of the study on captured scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.study.captured_trainings import PLAIN, PLAIN_LONGER, VALIDATION
from benchmarks.study.summary import Summary
from benchmarks.study.titles import title
from diff3r_plugin.mean_and_error import MeanAndError

BySeed = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Refinement:
    """One way to refine what a training predicts.

    Args:
        name: For the table.
        psnr: Label -> PSNR of every window, dB.
        seconds: Mean over the test windows.
    """

    name: str
    psnr: dict[str, list[float]]
    seconds: float

    @property
    def validation(self) -> float:
        """What it reached where choices are made, dB."""
        return _mean(self.psnr[VALIDATION])


def captured_table(record: dict[str, Any]) -> str:
    """Before and after TTO on every test set, paired differences, and the customary TTO by its number of steps."""
    units = record["units"]
    labels = [label for label in units["start"]["tests"] if label != VALIDATION]
    variants = list(dict.fromkeys(name.rpartition(", seed ")[0] for name in units if ", seed " in name))
    return "\n".join(
        [*_trainings(units, labels, variants), "", *_customary(units, labels, variants), "", _footnote(record, labels)]
    )


def captured_pretraining_table(record: dict[str, Any]) -> str:
    """The validation curve of a pretraining on captured scenes, by kind of scenes, and what it was."""
    curve, found = record["validation_curve"], record["captured"]
    kinds = [kind for kind in curve[0] if kind != "step"]
    lines = [
        "| steps | " + " | ".join(str(point["step"]) for point in curve) + " |",
        "| --- |" + " --- |" * len(curve),
    ]
    for kind in kinds:
        for name, digits in (("psnr", 2), ("ssim", 3)):
            values = " | ".join(f"{point[kind][name]:.{digits}f}" for point in curve)
            lines.append(f"| {kind}, {'PSNR, dB' if name == 'psnr' else 'SSIM'} | {values} |")
    machine = record["machine"]
    return "\n".join(lines) + (
        f"\n\n{record['parameters']:,} weights, step 0 being those of rooms alone; {found['variants']} augmented "
        f"windows of each captured scene at {found['size']}x{found['size']}, mixed with rooms (`{record['rooms']}`); "
        f"validation on the windows of {', '.join(found['without'])} and on rooms, two context views, before TTO; "
        f"{machine['cores']} shared cores of {machine['processor']}."
    )


def _trainings(units: dict[str, Any], labels: Sequence[str], variants: Sequence[str]) -> list[str]:
    lines = [
        "| data | training | CPU seconds | before TTO | after the layer | after, minus plain after its best TTO "
        "| minus the longer plain after its best TTO | minus plain after the customary TTO | before, minus plain's |",
        "| --- |" + " --- |" * 8,
    ]
    for label in labels:
        start = units["start"]
        before, after = (
            Summary.of({"1": per_scene(_windows(start, label), start["tests"][label]["scores"][f"psnr_{side}"])}).text()
            for side in ("before", "after")
        )
        lines.append(f"| {label} | none: the host they start from | 0 | {before} | {after} | | | | |")
        against = {
            "best": _of_refinement(units, "plain", label, best_refinement) if "plain" in variants else {},
            "longer": _of_refinement(units, PLAIN_LONGER, label, best_refinement) if PLAIN_LONGER in variants else {},
            "customary": _of_refinement(units, "plain", label, best_customary) if "plain" in variants else {},
            "before": _of_layer(units, "plain", label, "psnr_before") if "plain" in variants else {},
        }
        for variant in variants:
            own, first = (_of_layer(units, variant, label, f"psnr_{side}") for side in ("after", "before"))
            cells = [Summary.of(first).text(), Summary.of(own).text()]
            cells += [_difference(own, against[name]) for name in ("best", "longer", "customary")]
            cells.append("" if variant == "plain" else _difference(first, against["before"]))
            spent = MeanAndError.of([unit["cpu_seconds"] for unit in _seeds(units, variant).values()]).mean
            lines.append(f"| {label} | {title(variant)} | {spent:.0f} | {' | '.join(cells)} |")
    return lines


def _customary(units: dict[str, Any], labels: Sequence[str], variants: Sequence[str]) -> list[str]:
    """Every way to refine what nothing but plain training made, with its seconds."""
    lines = [
        f"| refined | by | seconds | validation | {' | '.join(labels)} |",
        "| --- | --- | --- | --- |" + " --- |" * len(labels),
    ]
    for name in ("start", *(variant for variant in PLAIN if variant in variants)):
        found = {"1": units["start"]} if name == "start" else _seeds(units, name)
        by_seed = {seed: refinements(unit) for seed, unit in found.items()}
        for kind in dict.fromkeys(way.name for listed in by_seed.values() for way in listed):
            ways = {seed: way for seed, listed in by_seed.items() for way in listed if way.name == kind}
            cells = [
                Summary.of({s: per_scene(_windows(found[s], label), w.psnr[label]) for s, w in ways.items()}).text()
                for label in (VALIDATION, *labels)
            ]
            heading = "the host they start from" if name == "start" else title(name)
            seconds = _mean([way.seconds for way in ways.values()])
            lines.append(f"| {heading}{_seeds_of(ways, found)} | {kind} | {seconds:.2f} | {' | '.join(cells)} |")
    return lines


def _footnote(record: dict[str, Any], labels: Sequence[str]) -> str:
    settings, found = record["settings"], record["captured"]
    units = record["units"]["start"]["tests"]
    counted = [
        f"{label}: {len(units[label]['rooms'])} windows of "
        f"{len({w.rpartition('_')[0] for w in units[label]['rooms']})} scenes"
        for label in (VALIDATION, *labels)
    ]
    return (
        "PSNR on the target views in dB at 64x64, mean ± standard error over scenes (over windows, where there is "
        f"one scene) ± over seeds. {'; '.join(counted)}. Trained with {settings['context_views']} context views and "
        f"tested with {found['tested_views']}. Validation chose the layer's weights and steps, and which refinement is "
        "the best of the plain ones; tests were measured once. Seconds are of one refinement on a shared machine; CPU "
        "seconds are of a training's whole process, start included."
    )


def refinements(unit: dict[str, Any]) -> list[Refinement]:
    """All ways that were measured to refine what one training predicts, the layer first."""
    tests = unit["tests"]
    psnr = {label: test["scores"]["psnr_after"] for label, test in tests.items()}
    seconds = _mean([s for label, test in tests.items() if label != VALIDATION for s in test["scores"]["seconds"]])
    found = [Refinement("the layer", psnr, seconds)]
    for loss, by_label in unit.get("customary", {}).items():
        for steps in by_label[VALIDATION]:
            psnr = {label: by_steps[steps]["psnr_after"] for label, by_steps in by_label.items()}
            listed = [s for label, by in by_label.items() if label != VALIDATION for s in by[steps]["seconds"]]
            found.append(Refinement(f"the customary TTO, {loss}, {steps} steps", psnr, _mean(listed)))
    return found


def best_refinement(unit: dict[str, Any]) -> Refinement:
    """The one of all that validation scenes prefer."""
    return max(refinements(unit), key=lambda way: way.validation)


def best_customary(unit: dict[str, Any]) -> Refinement | None:
    """The same among the customary ones; None where none was measured."""
    return max(refinements(unit)[1:], key=lambda way: way.validation, default=None)


def _seeds_of(ways: Mapping[str, Refinement], units: Mapping[str, Any]) -> str:
    """Says so where not all seeds were measured."""
    return "" if len(ways) == len(units) else f" (seeds {', '.join(ways)})"


def _of_refinement(units: dict[str, Any], variant: str, label: str, choose: Any) -> dict[str, list[float]]:
    chosen = {seed: (unit, choose(unit)) for seed, unit in _seeds(units, variant).items()}
    return {
        seed: per_scene(_windows(u, label), way.psnr[label]) for seed, (u, way) in chosen.items() if way is not None
    }


def _of_layer(units: dict[str, Any], variant: str, label: str, score: str) -> dict[str, list[float]]:
    return {
        seed: per_scene(_windows(unit, label), unit["tests"][label]["scores"][score])
        for seed, unit in _seeds(units, variant).items()
    }


def _seeds(units: dict[str, Any], variant: str) -> dict[str, dict[str, Any]]:
    prefix = f"{variant}, seed "
    return {name.removeprefix(prefix): unit for name, unit in units.items() if name.startswith(prefix)}


def _difference(own: BySeed, other: BySeed) -> str:
    """Paired by seed and scene; empty where it is the same, or nothing to compare with."""
    if own == other or not set(own) & set(other):
        return ""
    return Summary.difference(own, other).text(sign=True)


def per_scene(windows: Sequence[str], values: Sequence[float]) -> list[float]:
    """The mean of each scene's windows, which are called SCENE_NUMBER; the windows of a single scene as they are.

    Example:
        >>> from benchmarks.study.captured_report import per_scene
        >>> per_scene(["a_0", "a_1", "b_0"], [1.0, 3.0, 5.0])
        [2.0, 5.0]
    """
    scenes: dict[str, list[float]] = {}
    for window, value in zip(windows, values, strict=True):
        scenes.setdefault(window.rpartition("_")[0], []).append(value)
    return list(values) if len(scenes) == 1 else [_mean(found) for found in scenes.values()]


def _windows(unit: dict[str, Any], label: str) -> list[str]:
    return unit["tests"][label]["rooms"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
