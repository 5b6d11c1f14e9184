"""Every size of the demonstration in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diff3r_plugin.data.options import DataOptions
from diff3r_plugin.errors import Diff3rError

TOO_SHORT = "Too short to learn anything"
"""The headline of a quick run and of its report."""


class DemoError(Diff3rError, RuntimeError):
    """Something the user can put right; the message says how."""


@dataclass(frozen=True)
class DemoSettings:
    """What ``diff3r demo`` does.

    Args:
        out: Folder for data, runs, ``results.json`` and ``report.html``.
        seed: Seed of the data and of every training.
        steps: Training steps of the host, the same with and without the plugin.
        fine_tune: Start from the pretrained weights that come with the host; else from random ones.
        learning_rate: At the start of the host's cosine.
        lr_warm_up_steps: Over which the rate rises to it.
        data: Sizes of the procedural data set.
        host_settings: Further settings of the host, the same in every run.
        warm_up_share: Share of the steps after which the training with the flag begins to refine.
        plugin_settings: Further ``diff3r.*`` settings of that training, and of the tests of its checkpoint.
        grid_scenes: Validation scenes in the grid search for the plain checkpoints.
        grid_scales: Common factors on the default weights.
        grid_steps: Numbers of inner steps, each tried with each scale.
        grid_factors: Factors then tried on one parameter group at a time; empty skips this pass.
        shown_scenes: Test scenes in the report.
        also_test: Further data roots in the RealEstate10K layout, by name; the checkpoints are tested on them, too.
        quick: The sizes are too small to learn anything; console and report say so.

    Raises:
        DemoError: for a number that makes no sense.
    """

    out: Path = Path("outputs/demo")
    seed: int = 1
    steps: int = 150
    fine_tune: bool = True
    learning_rate: float = 2e-4
    lr_warm_up_steps: int = 10
    data: DataOptions = field(
        default_factory=lambda: DataOptions(train=192, val=8, test=24, frames=16, size=64, supersample=2)
    )
    host_settings: tuple[str, ...] = ()
    warm_up_share: float = 0.0
    plugin_settings: tuple[str, ...] = ("diff3r.head_lr_multiplier=5",)
    grid_scenes: int = 6
    grid_scales: tuple[float, ...] = (0.3, 1.0, 3.0)
    grid_steps: tuple[int, ...] = (8, 16)
    grid_factors: tuple[float, ...] = (0.2, 5.0)
    shown_scenes: int = 4
    also_test: dict[str, Path] = field(default_factory=dict)
    quick: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "grid_scenes"):
            if getattr(self, name) < 1:
                raise DemoError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.data.train < 2 or self.data.val < 1 or self.data.test < 2:
            raise DemoError(
                "the demo needs at least 2 training, 1 validation and 2 test scenes (a standard error needs two), got "
                f"{self.data.train}, {self.data.val} and {self.data.test}."
            )
        for name, root in self.also_test.items():
            if not (root / "test" / "index.json").is_file():
                raise DemoError(
                    f"--also-test {name}={root}: there is no {root / 'test' / 'index.json'}; give the folder that "
                    "holds a 'test' split in the RealEstate10K chunk layout."
                )

    @property
    def plugin_arguments(self) -> tuple[str, ...]:
        """The ``diff3r.*`` arguments on the command line of the training with the flag."""
        return (f"diff3r.warm_up_steps={round(self.warm_up_share * self.steps)}", *self.plugin_settings)

    @classmethod
    def from_scratch(cls, **changes: Any) -> DemoSettings:
        """From random weights: longer, at a higher rate, and refined in the last quarter alone, when it can pay."""
        own: dict[str, Any] = {
            "out": Path("outputs/demo-from-scratch"),
            "steps": 1100,
            "fine_tune": False,
            "learning_rate": 2e-3,
            "lr_warm_up_steps": 50,
            "warm_up_share": 0.75,
            "plugin_settings": (),
        }
        return cls(**{**own, **changes})

    @classmethod
    def tiny(cls, **changes: Any) -> DemoSettings:
        """The same structure in two minutes: far too short to learn anything."""
        small: dict[str, Any] = {
            "quick": True,
            "out": Path("outputs/demo-quick"),
            "steps": 8,
            "data": DataOptions(train=4, val=1, test=2, frames=12, size=32, supersample=1),
            "host_settings": ("dataset.image_shape=[32,32]",),
            "grid_scenes": 1,
            "grid_scales": (1.0, 10.0),
            "grid_steps": (2,),
            "grid_factors": (10.0,),
            "shown_scenes": 2,
        }
        return cls(**{**small, **changes})
