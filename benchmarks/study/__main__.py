"""``python -m benchmarks.study EXPERIMENT [--out outputs/study]``: one experiment, from where it was left.

    overfit     context and target PSNR against the number of inner steps
    ceilings    what refinement could give to an oracle that knows depths, targets or the best weights
    finetune    plain, implicit, stepwise and first-order fine-tuning of the pretrained host
    outliers    one of two context images corrupted: pixel weights off, learned, known
    real        the fine-tuned checkpoints on captured images (--data NAME=ROOT, once each)
    cost        seconds of a training step and peak memory, by backward mode and number of inner steps
    report      docs/results.md and its figures from what the experiments wrote to benchmarks/results

Everything is kept below --out as it comes: a run that was stopped resumes. Each experiment writes
``benchmarks/results/study_EXPERIMENT.json``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.native import machine
from benchmarks.study import experiments
from benchmarks.study.costs import costs
from benchmarks.study.report import write_report
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.settings import StudySettings
from benchmarks.study.trainings import Trainings
from diff3r_plugin.demo.host import host_folder
from diff3r_plugin.demo.results import versions
from diff3r_plugin.strict_json import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
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
        "overfit_steps": tuple(options.overfit_steps) if options.overfit_steps else None,
    }
    settings = StudySettings(
        options.out.resolve(), options.checkpoint.resolve(), **{k: v for k, v in changes.items() if v is not None}
    )
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {line}", flush=True)

    name = options.experiment + ("" if settings.context_views == 2 else f"_{settings.context_views}views")
    name += f"_{options.name}" if options.name else ""
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
        elif kept and kept[-1] == "--data":
            kept.append(f"{word.partition('=')[0]}=ROOT")
        else:
            kept.append(word)
    return shlex.join(["python", "-m", "benchmarks.study", *kept])


def parse() -> argparse.Namespace:
    """The command line; sizes that are not given are those of `StudySettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=("overfit", "ceilings", "finetune", "outliers", "real", "cost", "report"))
    parser.add_argument("--out", type=Path, default=Path("outputs/study"))
    parser.add_argument("--checkpoint", type=Path, default=host_folder() / "pretrained" / "mini_host.ckpt")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--variants", nargs="+", choices=[*experiments.VARIANTS, *experiments.CORRUPTED_VARIANTS])
    parser.add_argument(
        "--as-long-as",
        nargs="+",
        choices=experiments.VARIANTS,
        help="finetune: plain trainings of as many seconds as these took (implicit)",
    )
    parser.add_argument(
        "--name", help="of this run among others of one experiment: results are study_EXPERIMENT_NAME.json"
    )
    parser.add_argument("--data", action="append", default=[], type=_named, metavar="NAME=ROOT")
    for name in ("steps", "test-rooms", "validation-rooms", "grid-rooms", "context-views"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--overfit-steps", type=int, nargs="+")
    return parser.parse_args()


def _named(text: str) -> tuple[str, Path]:
    name, equals, root = text.partition("=")
    if not (name and equals and root):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ROOT, like fox=DATA/fox_re10k")
    return name, Path(root)


if __name__ == "__main__":
    main()
