"""One of two context images corrupted, on captured scenes: trainings with and without pixel weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.study.captured_report import per_scene
from benchmarks.study.captured_trainings import VALIDATION, CapturedTrainings
from benchmarks.study.corrupted import kinds_of, oracle
from benchmarks.study.experiments import corrupted_words
from benchmarks.study.refinement import Choice, choose, scores
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.trainings import Training
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo.flag import tto_config
from diff3r_plugin.evaluation import SavedScene


def captured_outliers(trainings: CapturedTrainings, file: ResultsFile, variants: tuple[str, ...]) -> dict[str, Any]:
    """Every test window once in each kind, refined as corrupted validation windows chose; clean windows beside.

    Args:
        trainings: Makes the trainings, on images of which half are corrupted.
        file: Keeps what is measured.
        variants: Names among ``experiments.CORRUPTED_VARIANTS``.

    Returns:
        Units as `report.outlier_table` takes them; its "rooms" are scenes, each the mean of its windows.
    """
    words = corrupted_words(trainings.settings.steps)
    units: dict[str, Any] = {"start": file.unit("start", lambda: measured(trainings, None, "corrupted start"))}
    for seed in trainings.settings.seeds:
        for name in variants:
            training = trainings.fine_tune(name, seed, words[name], corrupted=True)
            unit = f"{name}, seed {seed}"
            trainings.say(unit)
            units[unit] = file.unit(unit, lambda t=training, u=unit: measured(trainings, t, u))  # type: ignore[misc]
    kinds = {name.rpartition("_")[0]: kind for name, kind in kinds_of(trainings.corrupted_place.root, "test").items()}
    return {"units": units, "kinds": kinds, "captured": trainings.study.record()}


def measured(trainings: CapturedTrainings, training: Training | None, unit: str) -> dict[str, Any]:
    """Scores by scene: with the weights of the training, with those of an oracle, and on clean windows."""
    config = TTOConfig() if training is None else tto_config(training.words)
    learned = training is not None and bool(training.words)
    corrupted, clean = trainings.corrupted_scenes(training), trainings.captured_scenes(training)
    choice = Choice(
        **trainings.choices.unit(
            unit, lambda: asdict(choose(corrupted[VALIDATION], trainings.settings, config, learned=learned))
        )
    )
    known = oracle(trainings.corrupted_place)
    tests = [scene for label, scenes in corrupted.items() if label != VALIDATION for scene in scenes]
    clean_tests = [scene for label, scenes in clean.items() if label != VALIDATION for scene in scenes]
    return {
        "rooms": list(dict.fromkeys(scene.name.rpartition("_")[0] for scene in tests)),
        "scores": by_scene(tests, scores(tests, choice, config)),
        "oracle": by_scene(tests, scores(tests, choice, config, known)),
        "clean": by_scene(clean_tests, scores(clean_tests, choice, config)),
        "choice": asdict(choice),
        "seconds": 0.0 if training is None else training.seconds,
    }


def by_scene(scenes: list[SavedScene], columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Scores of windows averaged over the windows of each scene."""
    names = [scene.name for scene in scenes]
    return {name: per_scene(names, values) for name, values in columns.items()}
