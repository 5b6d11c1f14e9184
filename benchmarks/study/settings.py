"""Every size of the study in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diff3r_plugin.data import DataOptions


@dataclass(frozen=True)
class StudySettings:
    """How the study is done.

    Args:
        out: Folder for rooms, trainings, scenes and partial results; what is there is not done again.
        checkpoint: Weights that every training starts from.
        seeds: Of the trainings. Each is a training of its own; all are tested on the same rooms.
        steps: Fine-tuning steps.
        learning_rate: At the start of the fine-tuning's cosine.
        train_rooms, validation_rooms, test_rooms: How many. Choices are made on validation rooms alone.
        grid_rooms: The first so many validation rooms are those that choose how to refine.
        ceiling_rooms: Rooms of their own for what one could reach who knows more than a network.
        rooms_seed: Of the rooms: none of them was seen in pretraining.
        context_views: 2 or more.
        overfit_steps: Numbers of inner steps in the overfit curve.
        grid_scales, grid_steps, grid_factors: Of the search for weights and steps, as in the demonstration.
        learned_steps: Numbers of inner steps tried with learned weights.

    Raises:
        ValueError: for a size that makes no sense, or a checkpoint that is not there.
    """

    out: Path
    checkpoint: Path
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: int = 200
    learning_rate: float = 2e-4
    train_rooms: int = 192
    validation_rooms: int = 8
    test_rooms: int = 32
    grid_rooms: int = 6
    ceiling_rooms: int = 24
    rooms_seed: int = 9001
    context_views: int = 2
    overfit_steps: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 100)
    grid_scales: tuple[float, ...] = (0.3, 1.0, 3.0)
    grid_steps: tuple[int, ...] = (4, 16)
    grid_factors: tuple[float, ...] = (0.2, 5.0)
    learned_steps: tuple[int, ...] = (2, 4, 8, 16)

    def __post_init__(self) -> None:
        for name in ("steps", "train_rooms", "validation_rooms", "grid_rooms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.test_rooms < 2 or not self.seeds:
            raise ValueError(
                f"A standard error needs 2 test rooms and a training a seed; got {self.test_rooms} rooms, "
                f"{len(self.seeds)} seeds."
            )
        if self.context_views < 2:
            raise ValueError(f"context_views must be at least 2, got {self.context_views}.")
        if not self.checkpoint.is_file():
            raise ValueError(
                f"There are no pretrained weights at {self.checkpoint}; `python -m benchmarks.pretrain OUT` makes them."
            )

    def rooms(self, corrupted: bool = False) -> DataOptions:
        """The clean rooms, or the same with half of the context images corrupted: at test, one of each two."""
        options = DataOptions(
            train=self.train_rooms,
            val=self.validation_rooms,
            test=self.test_rooms,
            seed=self.rooms_seed,
            supersample=2,
        )
        if not corrupted:
            return options
        return replace(options, outlier_share=0.5, outlier_splits=("train", "val", "test"))

    def rooms_with_depths(self) -> DataOptions:
        """Other rooms, with their true depths."""
        return replace(self.rooms(), train=0, test=0, val=self.ceiling_rooms, seed=self.rooms_seed + 1, depths=True)

    def identity(self) -> dict[str, Any]:
        """What one measurement depends on: all but how many seeds there are in the end."""
        return {name: value for name, value in self.record().items() if name != "seeds"}

    def record(self) -> dict[str, Any]:
        """Plain values for a file of results, without the paths of this machine."""
        return {**asdict(self), "out": "OUT", "checkpoint": self.checkpoint.name}
