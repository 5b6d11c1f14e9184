"""Checkpoints, and a limit on time."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer


def get_callbacks(cfg: Any, output_dir: Path) -> list[Callback]:
    callbacks: list[Callback] = [
        ModelCheckpoint(
            output_dir / "checkpoints",
            every_n_train_steps=cfg.checkpointing.every_n_train_steps,
            save_top_k=cfg.checkpointing.save_top_k,
            monitor="info/global_step",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
            filename="epoch_{epoch}-step_{step}",
        ),
    ]
    if cfg.trainer.max_seconds is not None:
        callbacks.append(Timer(timedelta(seconds=cfg.trainer.max_seconds), interval="step", verbose=False))
    return callbacks
