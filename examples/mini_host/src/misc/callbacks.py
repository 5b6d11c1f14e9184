"""Checkpoints, and a limit on time."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer


class FinalCheckpoint(Callback):
    """Save the state that training ended in, whether the steps or the time ran out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def get_callbacks(cfg: Any, output_dir: Path) -> list[Callback]:
    keep = cfg.checkpointing.save_top_k
    callbacks: list[Callback] = [
        ModelCheckpoint(
            output_dir / "checkpoints",
            every_n_train_steps=cfg.checkpointing.every_n_train_steps,
            save_top_k=keep,
            # Lightning ranks checkpoints by a metric only when it has to choose among several.
            monitor="info/global_step" if keep > 1 else None,
            mode="max",
            auto_insert_metric_name=False,
            filename="epoch_{epoch}-step_{step}",
        ),
        FinalCheckpoint(output_dir / "checkpoints" / "last.ckpt"),
    ]
    if cfg.trainer.max_seconds is not None:
        callbacks.append(Timer(timedelta(seconds=cfg.trainer.max_seconds), interval="step", verbose=False))
    return callbacks
