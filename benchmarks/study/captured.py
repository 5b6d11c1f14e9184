"""The study on captured scenes: fine-tunings, and the layer beside the customary TTO on what each of them predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.study.captured_page import write_page
from benchmarks.study.captured_trainings import LONGER, PLAIN_LONGER, VALIDATION, CapturedTrainings
from benchmarks.study.ceilings import captured_ceilings
from benchmarks.study.refinement import Choice, choose, scores
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.trainings import Training
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo.flag import tto_config
from diff3r_plugin.evaluation import SavedScene, score
from diff3r_plugin.optimize.customary import LOSSES, CustomaryTTO

CUSTOMARY_LOSSES = LOSSES


def captured(
    trainings: CapturedTrainings,
    file: ResultsFile,
    variants: Sequence[str],
    words: dict[str, tuple[str, ...]],
    customary_steps: Sequence[int],
    customary_losses: Sequence[str] = CUSTOMARY_LOSSES,
    customary_seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Fine-tunings of captured scenes and the host they start from: before TTO, after the layer, after the customary.

    The customary TTO is what a plain network is refined by today; it is measured on the plain ones of equal steps and
    on the start. A page of the first seed's test windows is written beside the trainings.

    Args:
        trainings: Makes them.
        file: Keeps what is measured.
        variants: Names of the trainings.
        words: The plugin's words by name.
        customary_steps: Numbers of steps of the customary TTO.
        customary_losses: Its losses.
        customary_seeds: Seeds of the plain trainings that it is measured on; all by default.
    """
    units: dict[str, Any] = {}
    first: dict[str, Training | None] = {}
    jobs: list[tuple[str, int | None]] = [("start", None)]
    jobs += [(name, seed) for seed in trainings.settings.seeds for name in variants]
    for done, (name, seed) in enumerate(jobs, 1):
        unit = name if seed is None else f"{name}, seed {seed}"
        training = None if seed is None else fine_tuned(trainings, name, seed, words)
        trainings.say(f"{unit} ({done} of {len(jobs)})")
        units[unit] = file.unit(unit, lambda t=training, u=unit: measured(trainings, t, u))  # type: ignore[misc]
        if seed in (None, trainings.settings.seeds[0]):
            first[unit] = training
        if name == "start" or (name == "plain" and (customary_seeds is None or seed in customary_seeds)):
            units[unit]["customary"] = {
                loss: _kept(file, f"{unit}, customary, {loss}", customary_steps)
                or file.unit(
                    f"{unit}, customary, {loss}, {list(customary_steps)}",
                    lambda t=training, c=loss: customary(trainings, t, customary_steps, c),  # type: ignore[misc]
                )
                for loss in customary_losses
            }
    found = {"units": units, "captured": trainings.study.record()}
    page = trainings.settings.out / f"captured_{trainings.tested_views}views.html"
    trainings.say(f"wrote {write_page(trainings, found, first, page)}")
    return found


def _kept(file: ResultsFile, prefix: str, steps: Sequence[int]) -> dict[str, Any] | None:
    """What a run with more numbers of steps has measured of these."""
    wanted = [str(count) for count in steps]
    for name, unit in file.units.items():
        if name.startswith(f"{prefix}, [") and all(set(wanted) <= set(by_steps) for by_steps in unit.values()):
            return {label: {count: by_steps[count] for count in wanted} for label, by_steps in unit.items()}
    return None


def fine_tuned(trainings: CapturedTrainings, name: str, seed: int, words: dict[str, tuple[str, ...]]) -> Training:
    """The training of a name and seed."""
    if name == PLAIN_LONGER:
        return trainings.fine_tune(name, seed, (), longer=LONGER)
    return trainings.fine_tune(name, seed, words[name])


def measured(trainings: CapturedTrainings, training: Training | None, unit: str) -> dict[str, Any]:
    """How validation scenes chose to refine, and the scores of every test window with that choice."""
    found = trainings.captured_scenes(training)
    config = TTOConfig() if training is None else tto_config(training.words)
    learned = training is not None and bool(training.words)
    choice = Choice(
        **trainings.choices.unit(
            unit, lambda: asdict(choose(found[VALIDATION], trainings.settings, config, learned=learned))
        )
    )
    trainings.say(f"{unit}: chose {choice.steps} steps, {choice.weights or 'learned weights'}, {choice.psnr:.2f} dB")
    tests = {
        label: {"rooms": [scene.name for scene in scenes], "scores": scores(scenes, choice, config)}
        for label, scenes in found.items()
    }
    made = {} if training is None else {"seconds": training.seconds, "cpu_seconds": training.cpu_seconds}
    return {"tests": tests, "choice": asdict(choice), "steps": 0 if training is None else training.steps, **made}


def customary(
    trainings: CapturedTrainings, training: Training | None, steps: Sequence[int], loss: str
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Label -> number of steps -> scores of every window after the customary TTO."""
    trainings.say(f"customary TTO of {'the start' if training is None else training.name}, {loss}")
    return {
        label: customary_scores(scenes, CustomaryTTO(steps=tuple(steps), loss=loss))
        for label, scenes in trainings.captured_scenes(training).items()
    }


def customary_scores(scenes: Sequence[SavedScene], settings: CustomaryTTO) -> dict[str, dict[str, list[float]]]:
    """Number of steps -> PSNR, SSIM, context PSNR and seconds of every scene."""
    columns: dict[str, dict[str, list[float]]] = {str(count): {} for count in settings.steps}
    for scene in scenes:
        for state in settings.run(scene.gaussians, scene.context):
            row = {f"{name}_after": value for name, value in score(scene, state.gaussians, settings.backend).items()}
            for name, value in {**row, "seconds": state.seconds}.items():
                columns[str(state.steps)].setdefault(name, []).append(value)
    return columns


def room_to_gain(trainings: CapturedTrainings, file: ResultsFile) -> dict[str, Any]:
    """What refinement of the start's validation windows could reach for an oracle that knows targets or weights."""
    scenes = trainings.captured_scenes(None)[VALIDATION]
    rows = {}
    for name, make in captured_ceilings(scenes, trainings.settings).items():
        trainings.say(name)
        rows[name] = file.unit(name, make)
    return {"rows": rows, "rooms": [scene.name for scene in scenes], "captured": trainings.study.record()}
