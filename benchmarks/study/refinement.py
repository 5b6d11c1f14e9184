"""Choosing how to refine on validation scenes, and scoring test scenes with that choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from benchmarks.study.settings import StudySettings
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo.grid import GridPoint, search, search_steps
from diff3r_plugin.evaluation import SavedScene, evaluate


@dataclass(frozen=True)
class Choice:
    """What validation scenes chose.

    Args:
        steps: Inner steps.
        weights: Per group; empty for those that a head predicted.
        psnr: Mean over the validation scenes after refinement.
        tried: Number of settings tried.
    """

    steps: int
    weights: dict[str, float]
    psnr: float
    tried: int


def choose(scenes: Sequence[SavedScene], settings: StudySettings, config: TTOConfig, learned: bool) -> Choice:
    """The best of a grid of scalar weights and steps; of the learned weights as well, where there are any.

    Args:
        scenes: Unrefined validation scenes.
        settings: What is tried.
        config: How to refine otherwise.
        learned: Whether the scenes hold weights that a head predicted.
    """
    found = search(scenes, config, settings.grid_scales, settings.grid_steps, settings.grid_factors)
    points: list[GridPoint] = list(found.points)
    if learned:
        points += search_steps(scenes, config, settings.learned_steps).points
    best = max(points, key=lambda point: point.psnr)
    return Choice(best.steps, best.weights, best.psnr, len(points))


def scores(
    scenes: Sequence[SavedScene],
    choice: Choice,
    config: TTOConfig,
    pixel_weights: Callable[[SavedScene], Tensor | None] = lambda scene: None,
) -> dict[str, list[float]]:
    """PSNR and SSIM of every scene before and after, and its context PSNR, seconds and inner steps taken."""
    config = replace(config, inner_steps=choice.steps)
    columns: dict[str, list[float]] = {}
    for scene in scenes:
        weights: Mapping[str, Tensor | float] = choice.weights or scene.weights
        found = evaluate(scene, config, weights, pixel_weights=pixel_weights(scene))
        row = {
            **{f"{name}_before": value for name, value in found.before.items()},
            **{f"{name}_after": value for name, value in found.after.items()},
            "seconds": found.info.seconds,
            "accepted_steps": float(found.info.accepted_steps[0]),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
