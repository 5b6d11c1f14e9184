"""Trainings on captured scenes, and what their checkpoints predict for captured windows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.captured.corrupted import windows_of_each_kind
from benchmarks.captured.roots import CapturedOptions, at_size, scene_of, training_split, windows, write_split
from benchmarks.pretrain import CAPTURED_WINDOWS
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.settings import StudySettings
from benchmarks.study.trainings import Say, Training, Trainings
from diff3r_plugin.data.re10k_format import read_split
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.strict_json import write_json

VALIDATION = "validation"
"""Label of the windows that choose."""

LONGER = 3
"""Times as many steps as the other trainings make has the plain one that no variant outlasts: a step through the
refinement takes 2.0 to 2.9 times a plain one (`study cost`)."""

PLAIN_LONGER = "plain_longer"
"""Plain fine-tuning of ``LONGER`` times the steps."""

PLAIN = ("plain", PLAIN_LONGER)


@dataclass(frozen=True)
class CapturedStudy:
    """What the study on captured scenes needs besides `StudySettings`.

    Args:
        data: Training scenes; those that ``data.without`` names choose how to refine.
        tests: Label -> data root of test scenes, used once.
        tested_views: Context views at test and where choices are made; trainings have those of `StudySettings`.
        most_windows: Of each scene, evenly picked; all by default.
    """

    data: CapturedOptions
    tests: dict[str, Path]
    tested_views: int = 2
    most_windows: int | None = None

    def __post_init__(self) -> None:
        if not self.data.without:
            raise ValueError("Some scenes must choose how to refine: give --validation-scenes.")
        if VALIDATION in self.tests:
            raise ValueError(
                f"{VALIDATION!r} is what the windows are called that choose; call the test data otherwise."
            )
        if self.tested_views < 2:
            raise ValueError(f"tested_views must be at least 2, got {self.tested_views}.")

    def record(self) -> dict[str, Any]:
        """Plain values without the paths of this machine."""
        views, most = self.tested_views, self.most_windows
        tests = sorted(self.tests)
        return {"data": self.data.record(), "tests": tests, "tested_views": views, "most_windows": most}


class CapturedTrainings(Trainings):
    """Makes trainings on captured scenes, and scenes of captured windows, below ``settings.out``.

    Args:
        settings: All sizes.
        study: The captured scenes.
        say: Takes one line of progress.
    """

    def __init__(self, settings: StudySettings, study: CapturedStudy, say: Say) -> None:
        super().__init__(settings, say)
        self.study = study
        path = settings.out / f"choices_captured_{study.tested_views}views.json"
        self.choices = ResultsFile(path, self.identity())

    def identity(self) -> dict[str, Any]:
        """What one measurement depends on; further test data do not change it."""
        study = {name: value for name, value in self.study.record().items() if name != "tests"}
        return {**self.settings.identity(), "captured": study}

    @property
    def tested_views(self) -> int:
        return self.study.tested_views

    def root(self, corrupted: bool = False) -> Path:
        root = self.settings.out / ("captured_corrupted" if corrupted else "captured")
        record, options = root / "options.json", replace(self.study.data, seed=self.settings.rooms_seed)
        wanted = json.loads(json.dumps(options.record()))
        if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != wanted:
            training_split(root / "train", options, corrupted=corrupted)
            write_json(record, wanted)
            self.say(f"wrote {root}")
        return root

    def training_arguments(self, folder: Path, root: Path, seed: int, steps: int) -> tuple[str, ...]:
        return (
            *super().training_arguments(folder, root, seed, steps),
            *CAPTURED_WINDOWS,
            "trainer.limit_val_batches=0",
        )

    def index(self, place: TestData, folder: Path) -> Path:
        return place.index

    @cached_property
    def _labels(self) -> dict[str, str]:
        """Window -> label, of all windows that choose or test; written to one data root, so that a host starts once."""
        near, views, out = self.study.data.near, self.tested_views, self._windows_root
        most = self.study.most_windows
        places = {
            label: windows(root, out / "parts" / label, near, views, most=most)
            for label, root in sorted(self.study.tests.items())
        }
        for name, root in sorted(self.study.data.roots.items()):
            part = out / "parts" / f"{VALIDATION}_{name}"
            places[f"{VALIDATION}_{name}"] = windows(root, part, near, views, self.study.data.without, most)
        labels: dict[str, str] = {}
        index: dict[str, Any] = {}
        records: list[dict] = []
        for label, place in places.items():
            found = json.loads(place.index.read_text(encoding="utf-8"))
            if common := set(found) & set(index):
                raise ValueError(f"Windows of two data roots are called alike: {sorted(common)}.")
            index |= found
            records += read_split(place.root / place.split).values()
            labels |= dict.fromkeys(found, VALIDATION if label.startswith(VALIDATION) else label)
        write_split(out / "test", records)
        write_json(out / "evaluation_index_test.json", index)
        return labels

    @property
    def _windows_root(self) -> Path:
        return self.settings.out / f"windows_{self.tested_views}views"

    def captured_scenes(self, training: Training | None) -> dict[str, list[SavedScene]]:
        """What a checkpoint predicts for all windows, unrefined, by label.

        Validation has one window a scene before it has a second one, so that the first few are of different scenes.
        """
        labels = self._labels
        place = TestData(self._windows_root, self._windows_root / "evaluation_index_test.json")
        found: dict[str, list[SavedScene]] = {}
        for scene in self.scenes(training, "test", place, "captured"):
            found.setdefault(labels[scene.name], []).append(scene)
        found[VALIDATION] = by_turns(found[VALIDATION])[: self.settings.grid_rooms]
        return found

    @cached_property
    def corrupted_place(self) -> TestData:
        """Every window once for each kind, one of its context images corrupted; of validation scenes one window each.

        Images have the size at which the host sees them, so that masks of corrupted pixels fit.
        """
        labels = self._labels
        root, out = self._windows_root, self.settings.out / f"corrupted_{self.tested_views}views"
        index = json.loads((root / "evaluation_index_test.json").read_text(encoding="utf-8"))
        first = {scene_of(key): key for key in reversed(index)}
        chosen = {
            key: entry for key, entry in index.items() if labels[key] != VALIDATION or first[scene_of(key)] == key
        }
        clean = {key: at_size(record, self.study.data.size) for key, record in read_split(root / "test").items()}
        records, entries, notes = windows_of_each_kind(clean, chosen, self.settings.rooms_seed)
        write_split(out / "test", list(records.values()))
        write_json(out / "evaluation_index_test.json", entries)
        write_json(out / "outliers_test.json", notes)
        return TestData(out, out / "evaluation_index_test.json")

    def corrupted_scenes(self, training: Training | None) -> dict[str, list[SavedScene]]:
        """What a checkpoint predicts for the corrupted windows, unrefined, by label."""
        found: dict[str, list[SavedScene]] = {}
        for scene in self.scenes(training, "test", self.corrupted_place, "captured_corrupted"):
            found.setdefault(self._labels[scene.name.partition("_")[2]], []).append(scene)
        return found


def by_turns(scenes: list[SavedScene]) -> list[SavedScene]:
    """One window of each scene, then a second one of each, and so on."""
    rank: dict[str, int] = {}
    order = []
    for scene in scenes:
        name = scene_of(scene.name)
        rank[name] = rank.get(name, -1) + 1
        order.append(rank[name])
    return [scene for _, scene in sorted(zip(order, scenes, strict=True), key=lambda pair: pair[0])]
