"""Settings of a stand-alone refinement, checked where they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.errors import Diff3rError
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.ranges import require_choice, require_positive, require_whole

DEFAULT_WEIGHT = 0.1
POSE_WEIGHT, EXPOSURE_WEIGHT = 10.0, 1.0
"""Of the groups of views, which are held near where they were given, not where a round began: a hundredth of a radian
costs as much as an error of three hundredths in one pixel, a change of a tenth in exposure of a tenth."""
ROUNDS_OF_MANY = 30
"""Rounds where a round sees some of the views only, or where the scene is points yet, and no view tells when to end."""


class RefineError(Diff3rError):
    """A refinement that cannot be done as it was asked for; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a scene is refined in rounds, wherever its views come from.

    A *round* is Gauss-Newton steps on some of the context views, held near where the round began.

    Args:
        views_per_round: Context views that one round sees, at most.
        rounds: How many; None for one where a round sees all views. Otherwise and from points: until the validation
            views gain no more, or 30 without any.
        steps: Gauss-Newton steps of a round; None for those of ``tto`` in a single round, and half as many in one of
            many: the next one sees other views.
        weights: Proximal weight for each group that differs from 0.1.
        max_gaussians: The scene grows to at most so many; None: from points, until three numbers of the images are left
            for each unknown, and a given scene not at all.
        validation: Context views that no round sees, which tell when to end and which round was best; None for one in
            ten of at least ten where there are many rounds. Where they have told when to end, some last rounds from the
            best scene see them, too.
        robust: Residual (images in [0, 1]) from which pixels count less (Geman and McClure); None: all count alike.
        seed: Of the order of the views, and of which Gaussians divide.
        tto: Settings of each round's solver.

    Raises:
        ValueError: with the value, what was expected, and the setting's name.
    """

    views_per_round: int = 8
    rounds: int | None = None
    steps: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    max_gaussians: int | None = None
    validation: int | None = None
    robust: float | None = None
    seed: int = 0
    tto: TTOConfig = field(default_factory=TTOConfig)

    def __post_init__(self) -> None:
        require_whole("views_per_round", self.views_per_round, 1)
        for name, least in (("rounds", 1), ("steps", 0), ("max_gaussians", 1), ("validation", 0)):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), least)
        if self.robust is not None:
            require_positive("robust", self.robust)
        if all(GROUPS[group].of_views for group in self.tto.groups):
            raise ValueError(
                f"groups={','.join(self.tto.groups)} moves views alone: a refinement moves the scene as well; name "
                "at least one of means, covariance, opacity, sh_dc, sh_rest."
            )
        unknown = [group for group in self.weights if group not in self.tto.groups]
        if unknown:
            raise ValueError(
                f"weights has {unknown[0]!r}, which does not move; moving are {', '.join(self.tto.groups)}."
            )
        for group, weight in self.weights.items():
            require_positive(f"weights.{group}", weight)

    def all_weights(self) -> dict[str, float]:
        """The weight of each group that moves."""
        own = {"poses": POSE_WEIGHT, "exposure": EXPOSURE_WEIGHT}
        return {group: float(self.weights.get(group, own.get(group, DEFAULT_WEIGHT))) for group in self.tto.groups}

    def layer(self, many: bool) -> TTOConfig:
        """The settings of a round's solver, of one of many or of a single one. Groups of views move between rounds."""
        own = self.tto.inner_steps
        steps = self.steps if self.steps is not None else (own + 1) // 2 if many else own
        groups = tuple(group for group in self.tto.groups if not GROUPS[group].of_views)
        return replace(self.tto, inner_steps=steps, groups=groups)


@dataclass(frozen=True)
class RefineSettings(RoundSettings):
    """What :func:`~diff3r_plugin.refine.refine` does.

    One round on all views is what :class:`~diff3r_plugin.TTOLayer` does. Further arguments, by name: those of
    :class:`RoundSettings`.

    Args:
        scene: Gaussians, ``.ply`` or ``.npz``; None to start from points.
        cameras: COLMAP folder, ``transforms.json``, or chunk ``FILE.torch[:KEY]``.
        out: Folder for the results.
        points: Where these come from: a PLY file, a COLMAP model, or a ``transforms.json`` that names a PLY file; None
            for what lies at ``cameras``.
        images: Folder of the images, where it is not beside the cameras.
        world: "file"; "original" to undo a ``transforms.json``'s ``applied_transform`` and ``applied_scale``; the path
            of nerfstudio's ``dataparser_transforms.json``; or "auto": that where it lies beside the scene, else "file".
        undistort: Images of lenses that distort are undistorted as they are loaded; otherwise they are refused.
        frames: Which images are used: "all", a range "FIRST:END[:STEP]" of their numbers, or numbers or names,
            comma-separated.
        hold_out: Which of these are held out for the scores: "every:K" (the first, and every K-th after it), "file"
            (what the cameras' file calls its test or validation images), "none", or numbers or names, comma-separated;
            "auto" is "file" where it names some, else "every:8".
        downscale: Images are made smaller by this factor.
        sh_degree: Degree of the spherical harmonics of a scene that starts from points.
        near: Gaussians at depths <= near are not drawn, world units.
        far: Gaussians at depths >= far are not drawn, world units.
        background: Color behind all Gaussians, and behind transparent pixels.
        memory_gib: How much memory the refinement may take; None for most of what is free.
        device: "cpu", or a CUDA device.
        pictures: Views, held-out ones first, whose renderings are written beside the image.

    Raises:
        ValueError: with the value, what was expected, and the setting's name.
    """

    scene: Path | None
    cameras: str
    out: Path
    points: str | None = None
    images: Path | None = None
    world: str = "auto"
    undistort: bool = False
    frames: str = "all"
    hold_out: str = "auto"
    downscale: int = 1
    sh_degree: int = 1
    near: float = 0.01
    far: float = 1e10
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    memory_gib: float | None = None
    device: str = "cpu"
    pictures: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("downscale", 1), ("pictures", 0), ("sh_degree", 0)):
            require_whole(name, getattr(self, name), least)
        if self.scene is not None and self.points is not None:
            raise ValueError(f"points={self.points!r} and scene={str(self.scene)!r}: give one of them to start from.")
        if self.sh_degree > 4:
            raise ValueError(f"sh_degree={self.sh_degree} must be 0 to 4.")
        if not self.world.lower().endswith(".json"):
            require_choice("world", self.world, ("auto", "file", "original"))
        if not 0 <= self.near < self.far:
            raise ValueError(f"near={self.near:g} must not be negative, and below far={self.far:g}.")
        if len(self.background) != 3 or not all(0 <= c <= 1 for c in self.background):
            raise ValueError(f"background={self.background} must be three numbers in [0, 1].")
        kind = self.device.partition(":")[0]
        require_choice("device", kind, ("cpu", "cuda"))
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device={self.device!r}, but PyTorch finds no CUDA device here; use 'cpu'.")
        if self.memory_gib is not None:
            require_positive("memory", self.memory_gib)

    def record(self) -> dict[str, Any]:
        """All of it, defaults included, as files of results have it."""
        return {**asdict(self), "weights": self.all_weights()}
