"""What drives a host's model, as far as the plugin asks: Lightning's trainer, or a loop of the host's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

ATTRIBUTE = "_diff3r_loop"


class HostLoop(Protocol):
    """The loop around a host's model.

    Attributes:
        step: Optimizer steps so far.
        rank: Of this process.
        ranks: How many processes there are.
        clip_value: The largest gradient norm that the host allows; None where it does not say.
        gradient_scale: By which gradients are scaled while the optimizer steps (mixed precision).
        resuming: Whether a checkpoint that is loaded is to be gone on with, optimizers included.
    """

    @property
    def step(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def ranks(self) -> int: ...
    @property
    def clip_value(self) -> float | None: ...
    @property
    def gradient_scale(self) -> float: ...
    @property
    def resuming(self) -> bool: ...

    def log(self, figures: Mapping[str, float], stage: str, scenes: int) -> None:
        """Log what a step of a stage gave, means over its scenes."""

    def wait(self, purpose: str) -> None:
        """Wait until every process has come this far."""


class LightningLoop:
    """Lightning's trainer, through the host's LightningModule."""

    def __init__(self, wrapper: Any) -> None:
        self.wrapper = wrapper

    @property
    def step(self) -> int:
        return int(self.wrapper.global_step)

    @property
    def rank(self) -> int:
        return int(getattr(self.wrapper, "global_rank", 0))

    @property
    def ranks(self) -> int:
        return int(getattr(getattr(self.wrapper, "_trainer", None), "world_size", 1) or 1)

    @property
    def clip_value(self) -> float | None:
        return getattr(self.wrapper.trainer, "gradient_clip_val", None)

    @property
    def gradient_scale(self) -> float:
        scaler = getattr(self.wrapper.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    @property
    def resuming(self) -> bool:  # without a trainer only weights are wanted: fine-tuning starts optimizers anew
        return self.wrapper._trainer is not None

    def log(self, figures: Mapping[str, float], stage: str, scenes: int) -> None:
        for name, value in figures.items():
            # hosts validate on rank 0 only: nothing here may wait for the other ranks
            self.wrapper.log(name, value, batch_size=scenes, rank_zero_only=stage == "val")

    def wait(self, purpose: str) -> None:
        self.wrapper.trainer.strategy.barrier(purpose)


def loop_of(wrapper: Any) -> HostLoop:
    """What drives a model: the loop of its own that was noted for it, else Lightning."""
    return getattr(wrapper, "__dict__", {}).get(ATTRIBUTE) or LightningLoop(wrapper)
