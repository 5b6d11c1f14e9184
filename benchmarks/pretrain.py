"""Pretrain the miniature host until it is good: ``python -m benchmarks.pretrain OUT [--minutes 80]``.

What a user of the plugin has is a converged network, and what the demonstration is to fine-tune is one, too. This
trains the miniature host on many procedural rooms with their true depths as a further loss, on a schedule that ends
with the time, and writes its weights in half precision with their record beside them. What is in OUT already is not
done again.

With ``--data NAME=ROOT ... --validation-scenes A B ... --start CHECKPOINT --weights FILE`` it trains on captured scenes
mixed with rooms (`benchmarks.captured`), from weights that are there already; the record's curve has rooms and captured
scenes apart. Such weights stay out of the repository: photographs have terms of their own.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.captured.pretraining import curve, mixed_data
from benchmarks.captured.roots import CapturedOptions, named_root
from benchmarks.native import machine
from diff3r_plugin.data import DataOptions
from diff3r_plugin.demo import data
from diff3r_plugin.demo.host import HostCommand, host_folder, run
from diff3r_plugin.demo.results import versions
from diff3r_plugin.strict_json import write_json

MOST_BYTES = 2_000_000
"""Of the weights' file: it lies in the repository, and in every wheel."""

OWN_WEIGHTS = host_folder() / "pretrained" / "mini_host.ckpt"
"""Those that the repository and the wheels hold, trained on procedural rooms alone."""

RESULTS = Path(__file__).resolve().parent / "results"
"""Where the record of a training on captured scenes is written, too: results are kept, such weights are not."""

CAPTURED_WINDOWS = (
    "dataset.view_sampler.min_distance_between_context_views=3",
    "dataset.view_sampler.max_distance_between_context_views=12",
)
"""Augmented windows are as wide as evaluation windows are, and up to one and a half times that."""


@dataclass(frozen=True)
class Pretraining:
    """How the host is trained.

    Args:
        out: Folder for the rooms and the run.
        minutes: Length of the training; the learning rate's schedule ends with it.
        rooms: Training rooms.
        validation_rooms: Rooms for the curve; the last of it is the record's figure.
        seed: Of the training; the rooms have one of their own.
        rooms_seed: Of the rooms. The demonstration and the study take other ones.
        batch: Rooms a step.
        learning_rate: At the start of the cosine.
        extra_context_share: Share of the steps with four context views instead of two.
        validate_every: Steps.
        captured: Captured scenes that are mixed with the rooms; then no true depths are used.
        start: Weights to start from; random ones by default.
    """

    out: Path
    minutes: float = 80.0
    rooms: int = 1024
    validation_rooms: int = 32
    seed: int = 1
    rooms_seed: int = 7001
    batch: int = 4
    learning_rate: float = 2e-3
    extra_context_share: float = 0.15
    validate_every: int = 500
    captured: CapturedOptions | None = None
    start: Path | None = None

    @property
    def run_folder(self) -> Path:
        """Of the host's training."""
        return self.out / "run"

    def data_options(self) -> DataOptions:
        """The rooms, with true depths."""
        depths = self.captured is None
        return DataOptions(
            train=self.rooms, val=self.validation_rooms, test=0, seed=self.rooms_seed, supersample=2, depths=depths
        )

    def arguments(self, resume: Path | None = None) -> tuple[str, ...]:
        """The host's command line."""
        return (
            "mode=train",
            f"seed={self.seed}",
            "loss=[mse,ssim,depth]" if self.captured is None else "loss=[mse,ssim]",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            f"dataset.roots=[{self.out / ('data' if self.captured is None else 'mixed')}]",
            "trainer.max_steps=1000000",
            f"trainer.max_seconds={60 * self.minutes:g}",
            f"data_loader.train.batch_size={self.batch}",
            "data_loader.train.num_workers=1",
            f"data_loader.train.seed={self.seed}",
            "dataset.view_sampler.num_target_views=2",
            "dataset.view_sampler.extra_context_views=2",
            f"train.extra_context_share={self.extra_context_share:g}",
            "train.log_images_every_n_val=0",
            f"optimizer.lr={self.learning_rate:g}",
            "optimizer.warm_up_steps=200",
            f"trainer.val_check_interval={self.validate_every}",
            f"trainer.limit_val_batches={self.validation_rooms if self.captured is None else 0}",
            *([] if self.captured is None else CAPTURED_WINDOWS),
            "trainer.num_sanity_val_steps=0",
            f"checkpointing.every_n_train_steps={self.validate_every}",
            f"hydra.run.dir={self.run_folder}",
            *self._from(resume),
        )

    def _from(self, resume: Path | None) -> tuple[str, ...]:
        if resume is not None:
            return (f"checkpointing.load={resume}",)
        return () if self.start is None else (f"checkpointing.load={self.start}", "checkpointing.resume=false")

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Step and file of what the training has written so far, in order."""
        found = [(step_of(path), path) for path in self.run_folder.glob("checkpoints/*-step_*.ckpt")]
        return sorted(found)


def train(settings: Pretraining) -> None:
    """Write the rooms and train, unless that was done; an interrupted training is resumed."""
    if settings.captured is None:
        data.rooms(settings.out / "data", settings.data_options())
    else:
        mixed_data(settings.out, settings.captured, settings.data_options())
    if (settings.run_folder / "checkpoints" / "last.ckpt").is_file():
        return
    started = settings.checkpoints()
    arguments = settings.arguments(started[-1][1] if started else None)
    run(HostCommand("pretraining", arguments, settings.run_folder / "train.log"))


def step_of(checkpoint: Path) -> int:
    """The step in the name that the host gives its checkpoints."""
    return int(checkpoint.stem.rpartition("_")[2])


def validation_curve(metrics: Path) -> list[dict[str, float]]:
    """Step, PSNR, SSIM and median relative error of depth at each validation."""
    records = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    names = {"psnr": "val/psnr", "ssim": "val/ssim", "depth_error": "val/depth_error"}
    return [
        {"step": record["step"] + 1, **{short: round(record[name], 5) for short, name in names.items()}}
        for record in records
        if "val/psnr" in record
    ]


def export(settings: Pretraining, weights: Path) -> dict[str, object]:
    """Write the weights in half precision, and their record beside them as JSON.

    Raises:
        ValueError: if a weight does not survive half precision, or the file would be too large to be kept.
    """
    source = settings.run_folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    halves = {name: tensor.half() for name, tensor in checkpoint["state_dict"].items()}
    lost = [name for name, tensor in halves.items() if not tensor.isfinite().all()]
    if lost:
        raise ValueError(f"{source}: {', '.join(lost)} is not finite in half precision.")
    weights.parent.mkdir(parents=True, exist_ok=True)
    version = checkpoint["pytorch-lightning_version"]
    torch.save({"state_dict": halves, "global_step": 0, "epoch": 0, "pytorch-lightning_version": version}, weights)
    if weights.stat().st_size > MOST_BYTES:
        raise ValueError(f"{weights} has {weights.stat().st_size} bytes, more than {MOST_BYTES}.")
    validation = measured_curve(settings)  # after the weights are there: it takes minutes where tests measure it
    record: dict[str, object] = {
        "command": command(settings),
        "host_command": [without_folders(word, settings) for word in settings.arguments()],
        "rooms": data.options_command(Path("OUT/data"), settings.data_options()),
        "steps": checkpoint["global_step"],
        "parameters": sum(tensor.numel() for tensor in halves.values()),
        "bytes": weights.stat().st_size,
        **({} if settings.captured is None else {"captured": settings.captured.record()}),
        "validation": validation[-1],
        "validation_curve": validation,
        "machine": machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(weights.with_suffix(".json"), record)
    return record


def measured_curve(settings: Pretraining) -> list[dict[str, object]]:
    """What validation says along the training: from the host's own log, or by tests of its checkpoints."""
    if settings.captured is None:
        return [dict(point) for point in validation_curve(settings.run_folder / "local" / "metrics.jsonl")]
    last = settings.run_folder / "checkpoints" / "last.ckpt"
    end = int(torch.load(last, map_location="cpu", weights_only=False)["global_step"])
    start = [] if settings.start is None else [(0, settings.start)]
    between = [(step, path) for step, path in settings.checkpoints() if step < end]
    places = mixed_data(settings.out, settings.captured, settings.data_options())
    return curve([*start, *between, (end, last)], places, settings.out)


def command(settings: Pretraining) -> str:
    """The command line that trains so, without this machine's folders."""
    words = f"python -m benchmarks.pretrain OUT --minutes {settings.minutes:g} --seed {settings.seed}"
    if settings.captured is None:
        return words
    found = settings.captured
    return " ".join(
        [
            words,
            f"--rooms {settings.rooms} --learning-rate {settings.learning_rate:g} --near {found.near:g}",
            f"--variants {found.variants}",
            *(f"--data {name}=ROOT" for name in sorted(found.roots)),
            *(["--validation-scenes", *found.without] if found.without else []),
            *([] if settings.start is None else [f"--start {settings.start.name}"]),
            "--weights FILE",
        ]
    )


def without_folders(word: str, settings: Pretraining) -> str:
    """A word of the host's command line, without this machine's folders."""
    word = word.replace(str(settings.out), "OUT")
    return word if settings.start is None else word.replace(str(settings.start), settings.start.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the rooms (0.2 GB) and the run")
    parser.add_argument("--minutes", type=float, default=Pretraining.minutes)
    parser.add_argument("--seed", type=int, default=Pretraining.seed)
    parser.add_argument("--rooms", type=int, default=Pretraining.rooms)
    parser.add_argument("--weights", type=Path, default=OWN_WEIGHTS)
    parser.add_argument("--learning-rate", type=float, default=Pretraining.learning_rate)
    parser.add_argument("--validate-every", type=int, default=Pretraining.validate_every, help="steps")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument(
        "--data", action="append", default=[], type=named_root, metavar="NAME=ROOT", help="captured scenes, mixed in"
    )
    parser.add_argument("--validation-scenes", nargs="+", default=[], help="captured scenes that choose, not train")
    parser.add_argument("--variants", type=int, default=CapturedOptions.variants, help="of each captured scene")
    parser.add_argument("--near", type=float, default=CapturedOptions.near, help="nearest depth in the data's units")
    options = parser.parse_args()
    if options.data and options.weights.resolve() == OWN_WEIGHTS.resolve():
        parser.error(
            "weights that captured scenes trained do not go into the repository; give --weights FILE elsewhere"
        )
    captured = None
    if options.data:
        roots = {name: root.resolve() for name, root in options.data}
        captured = CapturedOptions(roots, tuple(options.validation_scenes), options.variants, near=options.near)
    settings = Pretraining(
        options.out.resolve(),
        options.minutes,
        options.rooms,
        seed=options.seed,
        learning_rate=options.learning_rate,
        validate_every=options.validate_every,
        captured=captured,
        start=None if options.start is None else options.start.resolve(),
    )
    train(settings)
    record = export(settings, options.weights)
    if captured is not None:
        write_json(RESULTS / "study_captured_pretraining.json", {"experiment": "captured_pretraining", **record})
    print(
        f"{options.weights}: {record['bytes']} bytes after {record['steps']} steps; validation {record['validation']}"
    )


if __name__ == "__main__":
    main()
