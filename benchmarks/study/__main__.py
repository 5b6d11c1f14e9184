"""``python -m benchmarks.study EXPERIMENT [--out outputs/study]``: one experiment, from where it was left.

    overfit     context and target PSNR against the number of inner steps
    ceilings    what refinement could give to an oracle that knows depths, targets or the best weights
    finetune    plain, implicit, stepwise and first-order fine-tuning of the pretrained host
    outliers    one of two context images corrupted: pixel weights off, learned, known
    real        the fine-tuned checkpoints on captured images (--data NAME=ROOT, once each)
    captured    fine-tunings on captured scenes (--data NAME=ROOT), refined by the layer and by the customary TTO, on
                captured test scenes (--test NAME=ROOT, once each); --validation-scenes choose how
    captured_ceilings
                what refinement could give on the captured validation scenes
    captured_outliers
                the same with one of two context images corrupted, every test window once in each kind
    cost        seconds of a training step and peak memory, by backward mode and number of inner steps
    report      docs/research/results.md and its figures from what the experiments wrote to benchmarks/results

Everything is kept below --out as it comes: a run that was stopped resumes. Each experiment writes
``benchmarks/results/study_EXPERIMENT.json``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.captured.roots import CapturedOptions, named_root
from benchmarks.native import machine
from benchmarks.study import captured, experiments
from benchmarks.study.captured_outliers import captured_outliers
from benchmarks.study.captured_trainings import PLAIN_LONGER, CapturedStudy, CapturedTrainings
from benchmarks.study.costs import costs
from benchmarks.study.report import write_report
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.settings import StudySettings
from benchmarks.study.trainings import Say, Trainings
from diff3r_plugin.demo.host import host_folder
from diff3r_plugin.demo.results import versions
from diff3r_plugin.strict_json import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
EXPERIMENTS = (
    *("overfit", "ceilings", "finetune", "outliers", "real", "captured", "captured_ceilings"),
    *("captured_outliers", "cost", "report"),
)
FINETUNE = ("plain", "implicit", "first_order")


def main() -> None:
    options = parse()
    if options.experiment == "report":
        write_report(RESULTS, RESULTS.parents[1] / "docs", options.checkpoint.with_suffix(".json"))
        return
    changes = {
        "seeds": tuple(options.seeds) if options.seeds else None,
        **{
            name: getattr(options, name)
            for name in ("steps", "test_rooms", "validation_rooms", "grid_rooms", "context_views")
        },
        "learning_rate": options.learning_rate,
        **{
            name: None if getattr(options, name) is None else tuple(getattr(options, name))
            for name in ("overfit_steps", "grid_scales", "grid_factors", "grid_steps", "learned_steps")
        },
    }
    settings = StudySettings(
        options.out.resolve(), options.checkpoint.resolve(), **{k: v for k, v in changes.items() if v is not None}
    )
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {line}", flush=True)

    views = options.tested_views or settings.context_views
    name = options.experiment + ("" if views == 2 else f"_{views}views")
    name += f"_{options.name}" if options.name else ""
    if options.experiment.startswith("captured"):
        found = on_captured(options, settings, name, say)
    else:
        found = on_rooms(options, settings, name, say)
    record = {
        "experiment": options.experiment,
        "command": command_line(sys.argv[1:]),
        "settings": settings.record(),
        "machine": machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        **found,
    }
    write_json(RESULTS / f"study_{name}.json", record)
    say(f"wrote benchmarks/results/study_{name}.json")


def on_captured(options: argparse.Namespace, settings: StudySettings, name: str, say: Say) -> dict[str, Any]:
    """The experiments whose trainings are on captured scenes."""
    roots = {label: root.resolve() for label, root in options.data}
    data = CapturedOptions(roots, tuple(options.validation_scenes), options.scene_variants, near=options.near)
    tests = {label: root.resolve() for label, root in options.test}
    study = CapturedStudy(data, tests, options.tested_views or settings.context_views, options.most_windows)
    trainings = CapturedTrainings(settings, study, say)
    file = ResultsFile(settings.out / f"{name}.json", trainings.identity())
    started_from = {"started_from": start_of(options.checkpoint)}
    if options.experiment == "captured_ceilings":
        return {**captured.room_to_gain(trainings, file), **started_from}
    if options.experiment == "captured_outliers":
        names = tuple(options.variants or ("corrupted_plain", "corrupted_exposure"))
        return {**captured_outliers(trainings, file, names), **started_from}
    default = ("plain", PLAIN_LONGER, "implicit", "stepwise")
    variants = default if options.variants is None else options.variants
    steps, losses = options.customary_steps, options.customary_losses
    seeds = options.customary_seeds
    found = captured.captured(trainings, file, variants, experiments.VARIANTS, steps, losses, seeds)
    return {**found, **started_from}


def start_of(checkpoint: Path) -> str:
    """How the weights that trainings start from were made, from the record beside them."""
    record = checkpoint.with_suffix(".json")
    if not record.is_file():
        return checkpoint.name
    found = json.loads(record.read_text(encoding="utf-8"))
    return f"the host of `{found['command']}` ({found['steps']} steps)"


def on_rooms(options: argparse.Namespace, settings: StudySettings, name: str, say: Say) -> dict[str, Any]:
    """The experiments whose trainings are on procedural rooms."""
    file = ResultsFile(settings.out / f"{name}.json", settings.identity())
    trainings = Trainings(settings, say)
    found: dict[str, Any]
    if options.experiment == "overfit":
        found = experiments.overfit(trainings, file)
    elif options.experiment == "ceilings":
        found = experiments.room_to_gain(trainings, file)
    elif options.experiment == "finetune":
        variants = tuple(options.variants or FINETUNE)
        as_long_as = options.as_long_as or [v for v in variants if v == "implicit"]
        found = experiments.finetune(trainings, file, variants, tuple(as_long_as))
    elif options.experiment == "outliers":
        found = experiments.outliers(trainings, file, tuple(options.variants or experiments.CORRUPTED_VARIANTS))
    elif options.experiment == "cost":
        found = costs(trainings, file)
    else:
        found = experiments.real(trainings, file, tuple(options.variants or ("plain", "implicit")), dict(options.data))
    return found


def command_line(arguments: list[str]) -> str:
    """The command as it is recorded: with the sizes it was given, without folders of the machine it ran on.

    Example:
        >>> from benchmarks.study.__main__ import command_line
        >>> command_line(["real", "--out", "/here", "--steps", "9", "--data", "fox=/there/fox"])
        'python -m benchmarks.study real --steps 9 --data fox=ROOT'
    """
    kept: list[str] = []
    skip = False
    for word in arguments:
        if skip or word in ("--out", "--checkpoint"):
            skip = not skip
        elif kept and kept[-1] in ("--data", "--test"):
            kept.append(f"{word.partition('=')[0]}=ROOT")
        else:
            kept.append(word)
    return shlex.join(["python", "-m", "benchmarks.study", *kept])


def parse() -> argparse.Namespace:
    """The command line; sizes that are not given are those of `StudySettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--out", type=Path, default=Path("outputs/study"))
    parser.add_argument("--checkpoint", type=Path, default=host_folder() / "pretrained" / "mini_host.ckpt")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument(
        "--variants", nargs="*", choices=[*experiments.VARIANTS, PLAIN_LONGER, *experiments.CORRUPTED_VARIANTS]
    )
    parser.add_argument(
        "--as-long-as",
        nargs="+",
        choices=experiments.VARIANTS,
        help="finetune: plain trainings of as many seconds as these took (implicit)",
    )
    parser.add_argument(
        "--name", help="of this run among others of one experiment: results are study_EXPERIMENT_NAME.json"
    )
    parser.add_argument("--data", action="append", default=[], type=named_root, metavar="NAME=ROOT")
    parser.add_argument(
        "--test", action="append", default=[], type=named_root, metavar="NAME=ROOT", help="captured: test scenes"
    )
    parser.add_argument("--validation-scenes", nargs="+", default=[], help="captured: scenes that choose")
    parser.add_argument("--scene-variants", type=int, default=16, help="captured: augmented windows of each scene")
    parser.add_argument("--near", type=float, default=CapturedOptions.near, help="captured: nearest depth in its units")
    parser.add_argument("--tested-views", type=int, help="captured: context views at test, if not --context-views")
    parser.add_argument("--most-windows", type=int, help="captured: of each scene; all by default")
    parser.add_argument("--customary-steps", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--customary-seeds", type=int, nargs="+", help="captured: of plain trainings; all by default")
    parser.add_argument(
        "--customary-losses", nargs="+", choices=captured.CUSTOMARY_LOSSES, default=list(captured.CUSTOMARY_LOSSES)
    )
    for name in ("steps", "test-rooms", "validation-rooms", "grid-rooms", "context-views"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--overfit-steps", type=int, nargs="+")
    parser.add_argument("--grid-steps", type=int, nargs="+", help="numbers of inner steps that are tried")
    parser.add_argument("--learned-steps", type=int, nargs="+", help="the same with learned weights")
    parser.add_argument("--grid-scales", type=float, nargs="+", help="factors on all default weights that are tried")
    parser.add_argument(
        "--grid-factors", type=float, nargs="*", help="factors on single groups that are tried; or none"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
