"""What validation scenes choose: weights and steps for a plain checkpoint, steps for one with a learned head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.evaluation import SavedScene, evaluate, score
from diff3r_plugin.heads.weight_head import starting_weights


@dataclass(frozen=True)
class GridPoint:
    """One setting and what it gives on the validation scenes.

    Args:
        steps: Inner steps.
        weights: Proximal weight per parameter group; empty for what a head predicted.
        psnr: Mean over the scenes after refinement, dB.
        ssim: The same.
        seconds: Mean time of the solver per scene.
    """

    steps: int
    weights: dict[str, float]
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class GridSearch:
    """Everything that was tried, and the best of it in mean PSNR.

    Args:
        psnr_before: Mean PSNR of the unrefined scenes.
        points: In the order they were tried.
        best: One of the points.
        scenes: Names of the validation scenes.
    """

    psnr_before: float
    points: tuple[GridPoint, ...]
    best: GridPoint
    scenes: tuple[str, ...]


def search(
    scenes: Sequence[SavedScene],
    config: TTOConfig,
    scales: Iterable[float],
    steps: Iterable[int],
    factors: Iterable[float],
    on_point: Callable[[GridPoint, int, int], None] | None = None,
) -> GridSearch:
    """Find the scalar weight per group and the number of steps of the highest mean PSNR.

    First a grid: each of the common ``scales`` on the default weights with each number of ``steps``. Then one pass
    over the groups from the best of it: each of the ``factors`` on that group's weight, kept where it helps.

    Args:
        scenes: Validation scenes, unrefined.
        config: How to refine; ``inner_steps`` is searched.
        scales: Factors on all default weights.
        steps: Numbers of inner steps.
        factors: Factors on one group's weight.
        on_point: Called after each point with the point, how many were tried, and how many there are in all.

    Raises:
        ValueError: without scenes, scales or steps.

    Example: see ``tests/demo/test_grid.py``.
    """
    scales, steps, factors = list(scales), list(steps), list(factors)
    if not scenes or not scales or not steps:
        raise ValueError(f"A search needs scenes, scales and steps; got {len(scenes)}, {len(scales)}, {len(steps)}.")
    total = len(scales) * len(steps) + len(config.groups) * len(factors)
    before = [score(scene, scene.gaussians, config.backend) for scene in scenes]
    points: list[GridPoint] = []

    def attempt(count: int, weights: dict[str, float]) -> GridPoint:
        point = _point(scenes, before, config, count, weights)
        points.append(point)
        if on_point is not None:
            on_point(point, len(points), total)
        return point

    start = starting_weights(config.groups)
    for scale in scales:
        for count in steps:
            attempt(count, {group: scale * weight for group, weight in start.items()})
    best = max(points, key=lambda point: point.psnr)
    for group in config.groups:
        tried = [attempt(best.steps, {**best.weights, group: factor * best.weights[group]}) for factor in factors]
        best = max([best, *tried], key=lambda point: point.psnr)
    names = tuple(scene.name for scene in scenes)
    return GridSearch(_mean(b["psnr"] for b in before), tuple(points), best, names)


def search_steps(
    scenes: Sequence[SavedScene],
    config: TTOConfig,
    steps: Iterable[int],
    on_point: Callable[[GridPoint, int, int], None] | None = None,
) -> GridSearch:
    """Find the number of steps of the highest mean PSNR with the weights that the head predicted for each scene.

    Args:
        scenes: Validation scenes, unrefined, with their weights.
        config: How to refine; ``inner_steps`` is searched.
        steps: Numbers of inner steps.
        on_point: Called after each point with the point, how many were tried, and how many there are in all.

    Raises:
        ValueError: without scenes or steps, or if a scene has no weights.
    """
    steps = list(steps)
    if not scenes or not steps or not all(scene.weights for scene in scenes):
        raise ValueError(f"A search needs steps and scenes with weights; got {len(steps)} steps, {len(scenes)} scenes.")
    before = [score(scene, scene.gaussians, config.backend) for scene in scenes]
    points = []
    for count in steps:
        points.append(_point(scenes, before, config, count, {}))
        if on_point is not None:
            on_point(points[-1], len(points), len(steps))
    best = max(points, key=lambda point: point.psnr)
    return GridSearch(_mean(b["psnr"] for b in before), tuple(points), best, tuple(scene.name for scene in scenes))


def _point(
    scenes: Sequence[SavedScene],
    before: Sequence[dict[str, float]],
    config: TTOConfig,
    steps: int,
    weights: dict[str, float],
) -> GridPoint:
    """One setting on all scenes; without ``weights``, those saved with each scene."""
    scores = [
        evaluate(scene, replace(config, inner_steps=steps), weights or scene.weights, before=known)
        for scene, known in zip(scenes, before, strict=True)
    ]
    return GridPoint(
        steps,
        weights,
        _mean(s.after["psnr"] for s in scores),
        _mean(s.after["ssim"] for s in scores),
        _mean(s.info.seconds for s in scores),
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
