"""What the demonstration found, as it stands in ``results.json``."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import dacite

from diff3r_plugin.demo.grid import GridSearch
from diff3r_plugin.demo.settings import DemoError
from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.strict_json import write_json

TITLES = {"plain": "plain", "plain_equal_time": "plain, equal time", "diff3r": "Diff3R"}
"""The trainings, in the order of the tables, with what they are called there."""


@dataclass(frozen=True)
class Training:
    """One training of the host.

    Args:
        seconds: Time of its loop, without the start of Python.
        steps: Steps it made.
        curves: Metrics by ``step``; NaN where one was not logged.
    """

    seconds: float
    steps: int
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class Scores:
    """Metrics of every scene, in the order of the scenes' names.

    Args:
        psnr: On the target views, dB.
        ssim: On the target views.
        context_psnr: On the context views, dB.
    """

    psnr: list[float]
    ssim: list[float]
    context_psnr: list[float]


@dataclass(frozen=True)
class TestedScenes:
    """The test of one checkpoint before and after refinement; lists over scenes, in the order of their names.

    Args:
        scenes: Names.
        before: Metrics of the unrefined scenes.
        after: Metrics of the refined scenes.
        seconds: Time of the inner solver.
        energy: Energy after each inner step, the start first; NaN where there is none.
        stationarity: Norm of the gradient at the end over that at the start.
        outcomes: What became of each scene.
    """

    __test__ = False  # not a test case: pytest goes by the name

    scenes: list[str]
    before: Scores
    after: Scores
    seconds: list[float]
    energy: list[list[float]]
    stationarity: list[float]
    outcomes: list[str]

    @classmethod
    def read(cls, path: Path) -> TestedScenes:
        """The scores that a host's test with the plugin wrote (``diff3r_scores.json``)."""
        entries = sorted(json.loads(path.read_text(encoding="utf-8"))["scenes"], key=lambda entry: entry["scene"])

        def scores(side: str) -> Scores:
            names = ("psnr", "ssim", "psnr_context")
            return Scores(*([_number(entry[side][name]) for entry in entries] for name in names))

        return cls(
            scenes=[entry["scene"] for entry in entries],
            before=scores("before"),
            after=scores("after"),
            seconds=[_number(entry["seconds"]) for entry in entries],
            energy=[[_number(value) for value in entry["energy"]] for entry in entries],
            stationarity=[_number(entry["stationarity"]) for entry in entries],
            outcomes=[entry["outcome"] for entry in entries],
        )


@dataclass(frozen=True)
class PairedDifference:
    """Mean and standard error over scenes of one training minus another, both after refinement."""

    psnr: MeanAndError
    ssim: MeanAndError

    @classmethod
    def between(cls, first: TestedScenes, second: TestedScenes) -> PairedDifference:
        """First minus second."""

        def difference(a: list[float], b: list[float]) -> MeanAndError:
            return MeanAndError.of([x - y for x, y in zip(a, b, strict=True)])

        return cls(difference(first.after.psnr, second.after.psnr), difference(first.after.ssim, second.after.ssim))


@dataclass(frozen=True)
class Comparison:
    """All trainings on the scenes of one data set.

    Args:
        scenes: Their names.
        tests: By training.
        paired_difference: Diff3R minus each of the others.
    """

    scenes: list[str]
    tests: dict[str, TestedScenes]
    paired_difference: dict[str, PairedDifference]

    @classmethod
    def of(cls, tests: dict[str, TestedScenes]) -> Comparison:
        """Compare ``diff3r`` with the others.

        Raises:
            DemoError: if they were not tested on the same scenes.
        """
        scenes = tests["diff3r"].scenes
        if any(test.scenes != scenes for test in tests.values()):
            raise DemoError(
                f"the trainings were not tested on the same scenes: { {n: t.scenes for n, t in tests.items()} }"
            )
        others = {name: test for name, test in tests.items() if name != "diff3r"}
        return cls(
            scenes, tests, {name: PairedDifference.between(tests["diff3r"], test) for name, test in others.items()}
        )


@dataclass(frozen=True)
class DemoResults:
    """All of it.

    Args:
        seed: Of the data and the trainings.
        total_seconds: Time of the whole demonstration.
        trainings: By name, see ``TITLES``.
        rooms: On the held-out procedural rooms.
        also: On further data sets, by name.
        grids: What validation scenes chose, by training.
        refinement_settings: The plugin's settings in the tests, by training.
        settings: The fields of `DemoSettings`.
        versions: Of what took part.
        commands: Every command line, by what it did.
    """

    seed: int
    total_seconds: float
    trainings: dict[str, Training]
    rooms: Comparison
    also: dict[str, Comparison]
    grids: dict[str, GridSearch]
    refinement_settings: dict[str, list[str]]
    settings: dict[str, Any]
    versions: dict[str, str]
    commands: dict[str, str]

    def save(self, path: Path) -> None:
        """Write strict JSON; NaN becomes null."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> DemoResults:
        """Read what `save` wrote; null becomes NaN."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DemoResults:
        """From the plain values of ``results.json``.

        Raises:
            dacite.DaciteError: if they are not of this form.
        """
        return dacite.from_dict(cls, values, dacite.Config(type_hooks={float: _number}, cast=[tuple]))


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in ("diff3r-plugin", "torch", "lightning", "hydra-core", "jaxtyping", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
