"""The miniature host's command lines in the demonstration, as its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diff3r_plugin.demo.data import TestData
from diff3r_plugin.demo.host import pretrained_weights
from diff3r_plugin.demo.settings import DemoSettings


@dataclass(frozen=True)
class HostArguments:
    """Arguments that the runs of one demonstration share, and those of each kind of run.

    Args:
        settings: All sizes.
        rooms: Data root of the procedural rooms.
        runs: Folder that holds a folder per training.
    """

    settings: DemoSettings
    rooms: Path
    runs: Path

    def training(self, name: str, steps: int, max_seconds: float | None = None) -> tuple[str, ...]:
        """Train for some steps, or for as many as fit into ``max_seconds``."""
        return (
            "mode=train",
            *self._shared(),
            f"dataset.roots=[{self.rooms}]",
            f"trainer.max_steps={steps}",
            f"trainer.val_check_interval={self.settings.steps}",
            f"checkpointing.every_n_train_steps={self.settings.steps}",
            f"trainer.log_every_n_steps={max(1, min(10, self.settings.steps // 8))}",
            f"optimizer.lr={self.settings.learning_rate:g}",
            f"optimizer.warm_up_steps={self.settings.lr_warm_up_steps}",
            f"hydra.run.dir={self.runs / name}",
            *self._start(),
            *([] if max_seconds is None else [f"trainer.max_seconds={max_seconds:.1f}"]),
        )

    def test(self, name: str, data: TestData, out: Path) -> tuple[str, ...]:
        """Test the checkpoint of a training."""
        return (
            "mode=test",
            *self._shared(),
            f"dataset.roots=[{data.root}]",
            f"dataset.splits.test={data.split}",
            "dataset/view_sampler=evaluation",
            f"dataset.view_sampler.index_path={data.index}",
            f"checkpointing.load={self.runs / name / 'checkpoints' / 'last.ckpt'}",
            f"test.output_path={out}",
            "test.save_image=false",
            f"hydra.run.dir={out / 'run'}",
        )

    def _start(self) -> tuple[str, ...]:
        if not self.settings.fine_tune:
            return ()
        return (f"checkpointing.load={pretrained_weights()}", "checkpointing.resume=false")

    def _shared(self) -> tuple[str, ...]:
        return (
            f"seed={self.settings.seed}",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            *self.settings.host_settings,
        )
