"""Pretrain the miniature host until it is good: ``python -m benchmarks.pretrain OUT [--minutes 80]``.

What a user of the plugin has is a converged network, and what the demonstration is to fine-tune is one, too. This
trains the miniature host on many procedural rooms with their true depths as a further loss, on a schedule that ends
with the time, and writes its weights in half precision with their record beside them. What is in OUT already is not
done again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.native import machine
from diff3r_plugin.data import DataOptions
from diff3r_plugin.demo import data
from diff3r_plugin.demo.host import HostCommand, host_folder, run
from diff3r_plugin.demo.results import versions
from diff3r_plugin.strict_json import write_json

MOST_BYTES = 2_000_000
"""Of the weights' file: it lies in the repository, and in every wheel."""


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

    @property
    def run_folder(self) -> Path:
        """Of the host's training."""
        return self.out / "run"

    def data_options(self) -> DataOptions:
        """The rooms, with true depths."""
        return DataOptions(
            train=self.rooms, val=self.validation_rooms, test=0, seed=self.rooms_seed, supersample=2, depths=True
        )

    def arguments(self, resume: Path | None = None) -> tuple[str, ...]:
        """The host's command line."""
        return (
            "mode=train",
            f"seed={self.seed}",
            "loss=[mse,ssim,depth]",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            f"dataset.roots=[{self.out / 'data'}]",
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
            f"trainer.limit_val_batches={self.validation_rooms}",
            "trainer.num_sanity_val_steps=0",
            f"checkpointing.every_n_train_steps={self.validate_every}",
            f"hydra.run.dir={self.run_folder}",
            *([] if resume is None else [f"checkpointing.load={resume}"]),
        )


def train(settings: Pretraining) -> None:
    """Write the rooms and train, unless that was done; an interrupted training is resumed."""
    data.rooms(settings.out / "data", settings.data_options())
    if (settings.run_folder / "checkpoints" / "last.ckpt").is_file():
        return
    started = sorted(settings.run_folder.glob("checkpoints/*-step_*.ckpt"), key=step_of)
    arguments = settings.arguments(started[-1] if started else None)
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
    curve = validation_curve(settings.run_folder / "local" / "metrics.jsonl")
    record: dict[str, object] = {
        "command": f"python -m benchmarks.pretrain OUT --minutes {settings.minutes:g} --seed {settings.seed}",
        "host_command": [word.replace(str(settings.out), "OUT") for word in settings.arguments()],
        "rooms": data.options_command(Path("OUT/data"), settings.data_options()),
        "steps": checkpoint["global_step"],
        "parameters": sum(tensor.numel() for tensor in halves.values()),
        "bytes": weights.stat().st_size,
        "validation": curve[-1],
        "validation_curve": curve,
        "machine": machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(weights.with_suffix(".json"), record)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the rooms (0.2 GB) and the run")
    parser.add_argument("--minutes", type=float, default=Pretraining.minutes)
    parser.add_argument("--seed", type=int, default=Pretraining.seed)
    parser.add_argument("--rooms", type=int, default=Pretraining.rooms)
    parser.add_argument("--weights", type=Path, default=host_folder() / "pretrained" / "mini_host.ckpt")
    options = parser.parse_args()
    settings = Pretraining(options.out.resolve(), options.minutes, options.rooms, seed=options.seed)
    train(settings)
    record = export(settings, options.weights)
    print(
        f"{options.weights}: {record['bytes']} bytes after {record['steps']} steps; validation {record['validation']}"
    )


if __name__ == "__main__":
    main()
