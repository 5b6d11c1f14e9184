"""The experiments. Each takes the trainings and a file of partial results, and returns plain values for a table."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.study.ceilings import ceilings
from benchmarks.study.corrupted import kinds_of, oracle
from benchmarks.study.refinement import Choice, choose, scores
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.trainings import Training, Trainings
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo import data
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.demo.flag import tto_config
from diff3r_plugin.groups import GROUPS

HEAD_RATE = "diff3r.head_lr_multiplier=5"
"""A fine-tuning's learning rate is small and its steps are few: at the default multiple the heads would not move."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "implicit": (HEAD_RATE, "diff3r.backward_mode=implicit"),
    "stepwise": (HEAD_RATE, "diff3r.backward_mode=stepwise"),
    "first_order": (HEAD_RATE, "diff3r.backward_mode=first_order"),
    "implicit_held": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.unrefined_loss=1.0"),
    "stepwise_held": (HEAD_RATE, "diff3r.backward_mode=stepwise", "diff3r.unrefined_loss=1.0"),
    "stepwise_lightly_held": (HEAD_RATE, "diff3r.backward_mode=stepwise", "diff3r.unrefined_loss=0.3"),
    "implicit_lightly_held": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.unrefined_loss=0.1"),
    "eight_steps": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.inner_steps=8"),
    "eight_steps_lightly_held": (
        HEAD_RATE,
        "diff3r.backward_mode=implicit",
        "diff3r.inner_steps=8",
        "diff3r.unrefined_loss=0.1",
    ),
    "two_steps": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.inner_steps=2"),
    "two_steps_held": (
        HEAD_RATE,
        "diff3r.backward_mode=implicit",
        "diff3r.inner_steps=2",
        "diff3r.unrefined_loss=1.0",
    ),
    "scalars": ("diff3r.head_lr_multiplier=0", "diff3r.backward_mode=implicit"),
    "cross_view": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.head_cross_view=true"),
    "cross_view_held": (
        HEAD_RATE,
        "diff3r.backward_mode=implicit",
        "diff3r.head_cross_view=true",
        "diff3r.unrefined_loss=1.0",
    ),
    "head_only": (
        "optimizer.lr=1e-6",
        "diff3r.head_lr_multiplier=2000",
        "diff3r.backward_mode=implicit",
        "diff3r.head_cross_view=true",
    ),
    "searched": (HEAD_RATE, "diff3r.backward_mode=implicit", "diff3r.base_search_every=50"),
}
"""Fine-tunings by name: the plugin's words on the command line."""

ALL_GROUPS = ",".join(TTOConfig().groups)
CONFIDENT = ("diff3r.head_lr_multiplier=10", "diff3r.confidence=learned")
TOLD = (*CONFIDENT, "diff3r.confidence_supervision=0.02", "diff3r.warm_up_steps={warm_up}")
"""The heads learn from what the data knows of its corrupted pixels first, then from the refined scene as well."""
CORRUPTED_VARIANTS: dict[str, tuple[str, ...]] = {
    "corrupted_plain": (),
    "corrupted_off": (HEAD_RATE, "diff3r.confidence=off"),
    "corrupted_learned": CONFIDENT,
    "corrupted_poses": (HEAD_RATE, f"diff3r.groups=[{ALL_GROUPS},poses]"),
    "corrupted_supervised": TOLD,
    "corrupted_exposure": (*TOLD, "diff3r.head_cross_view=true", f"diff3r.groups=[{ALL_GROUPS},exposure]"),
    "corrupted_cameras": (*TOLD, "diff3r.head_cross_view=true", f"diff3r.groups=[{ALL_GROUPS},poses,exposure]"),
}


WARM_UP_SHARE = 0.7
"""Of the steps, for heads that are told what is corrupted: without refinement a step costs a fraction."""


def corrupted_words(steps: int) -> dict[str, tuple[str, ...]]:
    """The plugin's words for trainings of so many steps on corrupted images, by name."""
    warm_up = str(round(WARM_UP_SHARE * steps))
    return {
        name: tuple(word.replace("{warm_up}", warm_up) for word in given) for name, given in CORRUPTED_VARIANTS.items()
    }


def overfit(trainings: Trainings, file: ResultsFile) -> dict[str, Any]:
    """Context and target PSNR of the pretrained host's scenes against the number of inner steps, at default weights.

    On validation rooms: the curve chooses nothing, and the test rooms are for what is compared.
    """
    settings = trainings.settings
    scenes = trainings.scenes(None, "val")
    rows = {}
    for scale in settings.grid_scales:
        weights = {group: scale * GROUPS[group].weight for group in TTOConfig().groups}
        for steps in settings.overfit_steps:
            name = f"weights x {scale:g}, {steps} steps"
            trainings.say(name)
            choice = Choice(steps, weights, 0.0, 0)
            rows[name] = file.unit(name, lambda c=choice: scores(scenes, c, TTOConfig()))  # type: ignore[misc]
    return {"rows": rows, "rooms": [scene.name for scene in scenes]}


def room_to_gain(trainings: Trainings, file: ResultsFile) -> dict[str, Any]:
    """What the pretrained host's scenes could reach, for an oracle that knows depths, targets or weights."""
    place = TestData.rooms(trainings.root_with_depths(), "val")
    scenes = trainings.scenes(None, "val", place, "depths")
    rows = {}
    for name, make in ceilings(scenes, place, trainings.settings).items():
        trainings.say(name)
        rows[name] = file.unit(name, make)
    return {"rows": rows, "rooms": [scene.name for scene in scenes]}


AS_LONG_AS = "plain_as_long_as_"
"""Before a variant's name: plain fine-tuning of as many seconds as that one took."""


def finetune(
    trainings: Trainings, file: ResultsFile, variants: tuple[str, ...], as_long_as: tuple[str, ...]
) -> dict[str, Any]:
    """Fine-tunings of equal steps, and plain ones of as many seconds as ``as_long_as`` took; test rooms, once."""
    names = [*variants, *(AS_LONG_AS + name for name in as_long_as)]
    return _compare(trainings, file, names, VARIANTS)


def outliers(trainings: Trainings, file: ResultsFile, variants: tuple[str, ...]) -> dict[str, Any]:
    """The same with one of two context images corrupted: by kind, with w off, learned and known."""
    words = corrupted_words(trainings.settings.steps)
    found = _compare(trainings, file, list(variants), words, corrupted=True)
    found["kinds"] = kinds_of(trainings.root(corrupted=True), "test")
    return found


def real(trainings: Trainings, file: ResultsFile, variants: tuple[str, ...], roots: dict[str, Path]) -> dict[str, Any]:
    """The fine-tuned checkpoints on captured images, with the choices that procedural validation rooms made."""
    settings, units = trainings.settings, {}
    for label, root in roots.items():
        place = data.windows(root.resolve(), settings.out / f"data_{label}")
        for name in variants:
            for seed in settings.seeds:
                training = trainings.fine_tune(name, seed, VARIANTS[name])
                choice = _choice(trainings, training)
                units[f"{label}, {name}, seed {seed}"] = file.unit(
                    f"{label}, {name}, seed {seed}",
                    partial(_test, trainings, training, choice, place, label),
                )
    return {"units": units}


def _compare(
    trainings: Trainings,
    file: ResultsFile,
    names: list[str],
    variants: dict[str, tuple[str, ...]],
    corrupted: bool = False,
) -> dict[str, Any]:
    units: dict[str, Any] = {}
    place = TestData.rooms(trainings.root(corrupted), "test")
    start_choice = file.unit("start, choice", lambda: _start_choice(trainings, corrupted))
    start = Choice(**start_choice)
    units["start"] = file.unit("start, test", lambda: _test(trainings, None, start, place, _label("test", corrupted)))
    for seed in trainings.settings.seeds:
        for name in names:
            training = _training(trainings, name, seed, variants, corrupted)
            choice = _choice(trainings, training, corrupted)
            unit = f"{name}, seed {seed}"
            found = file.unit(
                f"{unit}, test", partial(_test, trainings, training, choice, place, _label("test", corrupted))
            )
            units[unit] = {**found, "choice": asdict(choice), "seconds": training.seconds, "steps": training.steps}
    return {"units": units, "start_choice": start_choice}


def _training(
    trainings: Trainings, name: str, seed: int, variants: dict[str, tuple[str, ...]], corrupted: bool
) -> Training:
    if not name.startswith(AS_LONG_AS):
        return trainings.fine_tune(name, seed, variants[name], corrupted=corrupted)
    other = name.removeprefix(AS_LONG_AS)
    seconds = trainings.fine_tune(other, seed, variants[other], corrupted=corrupted).seconds
    return trainings.fine_tune(name, seed, (), corrupted=corrupted, max_seconds=seconds)


def _start_choice(trainings: Trainings, corrupted: bool) -> dict[str, Any]:
    place = TestData.rooms(trainings.root(corrupted), "val")
    scenes = trainings.scenes(None, "val", place, _label("val", corrupted), trainings.settings.grid_rooms)
    return asdict(choose(scenes, trainings.settings, TTOConfig(), learned=False))


def _choice(trainings: Trainings, training: Training, corrupted: bool = False) -> Choice:
    """How to refine what a training predicts, by its validation rooms."""

    def make() -> dict[str, Any]:
        trainings.say(f"choosing for {training.name}, seed {training.seed}")
        place = TestData.rooms(trainings.root(corrupted), "val")
        scenes = trainings.scenes(training, "val", place, _label("val", corrupted), trainings.settings.grid_rooms)
        return asdict(choose(scenes, trainings.settings, tto_config(training.words), learned=bool(training.words)))

    return Choice(**trainings.choices.unit(f"{training.name}, seed {training.seed}", make))


def _test(
    trainings: Trainings, training: Training | None, choice: Choice, place: TestData, label: str
) -> dict[str, Any]:
    trainings.say(f"testing {'the start' if training is None else f'{training.name}, seed {training.seed}'} on {label}")
    scenes = trainings.scenes(training, "test", place, label)
    config = TTOConfig() if training is None else tto_config(training.words)
    found: dict[str, Any] = {"rooms": [scene.name for scene in scenes], "scores": scores(scenes, choice, config)}
    if label.endswith("corrupted"):
        known = oracle(place)
        found["oracle"] = scores(scenes, choice, config, lambda scene: known(scene))
        clean = trainings.scenes(training, "test", TestData.rooms(trainings.root(), "test"), "test")
        found["clean"] = scores(clean, choice, config)
    return found


def _label(split: str, corrupted: bool) -> str:
    return f"{split}_corrupted" if corrupted else split
