"""What a procedural data set is to contain. Imports nothing heavy, so that the command line can list the options."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "val", "test")
OUTLIER_KINDS = ("exposure", "blur", "occluder", "pose")


@dataclass(frozen=True)
class DataOptions:
    """What to write. The same options give the same bytes, whatever the number of workers.

    Args:
        train: Training scenes.
        val: Validation scenes.
        test: Test scenes.
        frames: Frames per scene, at least 4.
        size: Height and width of the images, pixels.
        seed: Seed of everything.
        target_views: Target frames per scene in the evaluation indices.
        supersample: Rays per pixel along each axis.
        depths: Also store every frame's true z-depth, for hosts that train with it.
        outlier_share: Share of the context images (those of the evaluation indices) to corrupt, in [0, 1]; spread
            evenly over the scenes. What they were before is written beside them.
        outlier_kinds: How; see `diff3r_plugin.data.outliers`.
        outlier_splits: Where. In ``train`` every frame may become context, so there the share is of all frames.

    Raises:
        ValueError: if a number is out of range or a split is unknown.
    """

    train: int = 256
    val: int = 16
    test: int = 24
    frames: int = 16
    size: int = 64
    seed: int = 0
    target_views: int = 3
    supersample: int = 3
    depths: bool = False
    outlier_share: float = 0.0
    outlier_kinds: tuple[str, ...] = OUTLIER_KINDS
    outlier_splits: tuple[str, ...] = ("val", "test")

    def __post_init__(self) -> None:
        least = {
            "train": 0,
            "val": 0,
            "test": 0,
            "frames": 4,
            "size": 8,
            "seed": 0,
            "target_views": 1,
            "supersample": 1,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}.")
        if self.train + self.val + self.test == 0:
            raise ValueError("train, val and test are all 0: there is nothing to write.")
        if self.target_views > self.frames - 2:
            raise ValueError(
                f"target_views={self.target_views} does not fit between two context views of {self.frames} frames; "
                f"give at most {self.frames - 2}, or more frames."
            )
        if not 0 <= self.outlier_share <= 1:
            raise ValueError(f"outlier_share must be in [0, 1], got {self.outlier_share}.")
        for name, known in (("outlier_kinds", OUTLIER_KINDS), ("outlier_splits", SPLITS)):
            given = getattr(self, name)
            unknown = sorted(set(given) - set(known))
            if unknown or not given:
                raise ValueError(f"{name} must be among {', '.join(known)}; got {', '.join(unknown) or 'none'}.")
