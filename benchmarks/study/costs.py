"""What a training step through the refinement costs: time and peak memory of the whole training process."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.study.results_file import ResultsFile
from benchmarks.study.trainings import Trainings
from diff3r_plugin.demo.flag import FLAG
from diff3r_plugin.demo.host import HostCommand, TrainingLog, run

TURNS = 1
"""Each row is run so often, all rows taking turns: more than once where other work may slow some of them."""

STEPS = 100
REFERENCE_STEPS = 2
"""Of a training by the reference renderer, which takes a minute or more a step, and has one turn."""


def _words(mode: str, inner_steps: int) -> tuple[str, ...]:
    return (f"diff3r.backward_mode={mode}", f"diff3r.inner_steps={inner_steps}", "diff3r.log_every=1000000")


ROWS: dict[str, tuple[str, ...]] = {
    "plain": (),
    **{
        f"{mode}, {count} inner steps": _words(mode, count)
        for mode, counts in {"implicit": (1, 4, 16), "stepwise": (1, 4, 16), "first_order": (1, 4, 16)}.items()
        for count in counts
    },
    "implicit, 1 inner steps, reference renderer": (*_words("implicit", 1), "diff3r.backend=torch"),
}
"""Trainings by name: the plugin's words on the command line. Unrolling needs the reference renderer: its last row says
what that costs before anything is unrolled."""


def costs(trainings: Trainings, file: ResultsFile) -> dict[str, Any]:
    """Seconds of a step and peak memory of the process, for every row and turn."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    for turn in range(TURNS):
        for name, words in ROWS.items():
            slow = "diff3r.backend=torch" in words
            if slow and turn > 0:
                continue
            unit = f"{name}, turn {turn}"
            trainings.say(unit)
            steps = REFERENCE_STEPS if slow else STEPS
            rows[name].append(file.unit(unit, partial(measured, trainings, words, steps)))
    return {"rows": rows}


def measured(trainings: Trainings, words: tuple[str, ...], steps: int) -> dict[str, float]:
    """One short training from the checkpoint, in a process whose only child it is: so its peak is the child's."""
    folder = trainings.settings.out / "costs"
    arguments = (
        *trainings.training_arguments(folder, trainings.root(), seed=1, steps=steps),
        "trainer.log_every_n_steps=1",
        "trainer.limit_val_batches=0",
        *((*FLAG, *words) if words else ()),
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(_in_own_process, (arguments, folder))


def _in_own_process(arguments: tuple[str, ...], folder: Path) -> dict[str, float]:
    log = TrainingLog(folder / "local" / "metrics.jsonl")
    log.path.unlink(missing_ok=True)
    run(HostCommand("measuring", arguments, folder / "train.log"), log.read)
    seconds = log.seconds()
    assert seconds is not None
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds_per_step": seconds / log.step, "peak_mib": kibibytes / 1024}


def cost_table(record: dict[str, Any]) -> str:
    """Medians over turns, and ratios to a plain step within the turns."""
    rows = record["rows"]
    lines = [
        "| training | seconds a step | times a plain step | peak memory, MiB | more than plain, MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    plain = rows["plain"]
    for name, turns in rows.items():
        seconds, peak = (statistics.median(turn[key] for turn in turns) for key in ("seconds_per_step", "peak_mib"))
        times = statistics.median(
            turn["seconds_per_step"] / other["seconds_per_step"] for turn, other in zip(turns, plain, strict=False)
        )
        more = statistics.median(
            turn["peak_mib"] - other["peak_mib"] for turn, other in zip(turns, plain, strict=False)
        )
        cells = ("", "") if turns is plain else (f"{times:.1f}", f"{more:.0f}")
        lines.append(f"| {name} | {seconds:.3f} | {cells[0]} | {peak:.0f} | {cells[1]} |")
    return "\n".join(lines) + (
        "\n\nThe miniature host's whole training process at 64×64, one room a step: "
        f"{len(plain)} x {STEPS} steps, {REFERENCE_STEPS} by the reference renderer; medians over turns, ratios and "
        "differences within them."
    )
