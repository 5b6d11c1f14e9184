"""How much room there is on the pretrained host: what refinement would give to an oracle that knows, room by room.

Everything is measured on rooms that are used for nothing else (``settings.ceiling_rooms``, with true depths).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from benchmarks.study.refinement import Choice, choose
from benchmarks.study.settings import StudySettings
from diff3r_plugin import Gaussians, GaussNewton, ProximalWeights, Stepwise, TTOLayer, Views
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.data.re10k_format import read_split
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.evaluation import SavedScene, evaluate
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.metrics import psnr
from diff3r_plugin.render import render

SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of all weights, for one who may choose the best of them for each room."""

UPDATES, RATE = 40, 0.1
"""Steps of Adam on the logarithms of a room's own weights, and their size."""

Refine = Callable[[SavedScene], float]


def captured_ceilings(scenes: list[SavedScene], settings: StudySettings) -> dict[str, Callable[[], list[float]]]:
    """Rows by name, as `ceilings` has them, for scenes whose depths nobody knows."""
    found = choose(scenes, settings, TTOConfig(), learned=False)
    return _without_depths(scenes, found)


def ceilings(
    scenes: list[SavedScene], place: TestData, settings: StudySettings
) -> dict[str, Callable[[], list[float]]]:
    """Rows by name; each is the PSNR of every scene's targets, dB.

    The common weights and steps are those that are best on these very rooms, so that nothing below is gained by the
    choice of rooms.
    """
    found = choose(scenes, settings, TTOConfig(), learned=False)
    depths = true_depths(place)

    def with_true_depth(scene: SavedScene) -> SavedScene:
        return replace(scene, gaussians=at_depth(scene.gaussians, scene.context, depths[scene.name]))

    def each(refine: Refine) -> Callable[[], list[float]]:
        return lambda: [refine(scene) for scene in scenes]

    rows = _without_depths(scenes, found)
    targets_too = rows.popitem()
    return {
        **rows,
        "true depths, no refinement": each(
            lambda scene: evaluate(with_true_depth(scene), TTOConfig(inner_steps=0), found.weights).before["psnr"]
        ),
        "true depths, the same weights everywhere": each(lambda scene: _refined(with_true_depth(scene), found)),
        targets_too[0]: targets_too[1],
    }


def _refined(scene: SavedScene, choice: Choice) -> float:
    return evaluate(scene, replace(TTOConfig(), inner_steps=choice.steps), choice.weights).after["psnr"]


def _without_depths(scenes: list[SavedScene], found: Choice) -> dict[str, Callable[[], list[float]]]:
    def each(refine: Refine) -> Callable[[], list[float]]:
        return lambda: [refine(scene) for scene in scenes]

    return {
        "no refinement": each(lambda scene: evaluate(scene, TTOConfig(inner_steps=0), found.weights).before["psnr"]),
        "the same weights everywhere": each(lambda scene: _refined(scene, found)),
        "the best of five scales for each room": each(lambda scene: best_scale(scene, found)),
        "weights of each Gaussian, by the targets' gradient": each(lambda scene: best_weights(scene, found)),
        "refined on the targets, too": each(lambda scene: _refined(with_targets(scene), found)),
    }


def best_scale(scene: SavedScene, choice: Choice) -> float:
    """The best that one number for all weights of a room can do."""
    config = replace(TTOConfig(), inner_steps=choice.steps)
    return max(
        evaluate(scene, config, {group: scale * weight for group, weight in choice.weights.items()}).after["psnr"]
        for scale in SCALES
    )


def best_weights(scene: SavedScene, choice: Choice) -> float:
    """The best on the way of descending the targets' own error by a room's weights, one each Gaussian and group."""
    layer = TTOLayer(solver=GaussNewton(steps=choice.steps), backward=Stepwise(), warn_of_fallbacks=False)
    logs = {
        group: torch.full((1, scene.gaussians.num_gaussians, 1), choice.weights.get(group, GROUPS[group].weight))
        .log()
        .requires_grad_()
        for group in layer.groups
    }
    optimizer = torch.optim.Adam(logs.values(), RATE)
    targets, best = scene.target.given_images, 0.0
    for _ in range(UPDATES):
        refined, _ = layer(
            scene.gaussians, scene.context, ProximalWeights(**{group: log.exp() for group, log in logs.items()})
        )
        rendered = render(refined, scene.target.replace(images=None))
        best = max(best, float(psnr(targets, rendered.detach().clamp(0, 1)).mean()))
        optimizer.zero_grad()
        (rendered - targets).square().mean().backward()
        optimizer.step()
    return best


def with_targets(scene: SavedScene) -> SavedScene:
    """The scene with its targets among the context views: what the representation itself can show."""
    a, b = scene.context, scene.target
    both = Views(
        torch.cat([a.world_to_camera, b.world_to_camera], 1),
        torch.cat([a.intrinsics, b.intrinsics], 1),
        torch.cat([a.given_images, b.given_images], 1),
        torch.cat([a.near, b.near], 1),
        torch.cat([a.far, b.far], 1),
        background=a.background,
    )
    return replace(scene, context=both)


def true_depths(place: TestData) -> dict[str, Float[Tensor, "V H W"]]:
    """Scene -> true z-depth of its context frames, in the data's units."""
    records = read_split(place.root / place.split)
    index = json.loads(place.index.read_text(encoding="utf-8"))
    return {scene: records[scene]["depths"][views["context"]].float() for scene, views in index.items()}


def at_depth(gaussians: Gaussians, views: Views, depths: Float[Tensor, "V H W"]) -> Gaussians:
    """One-a-pixel Gaussians moved along their rays to other depths, and scaled with them.

    Args:
        gaussians: In the order (view, row, column), one scene.
        views: The cameras that predicted them.
        depths: z-depth in each view's camera.
    """
    flat = rearrange(depths, "v h w -> 1 (v h w)")
    per_view = flat.shape[1] // views.num_views
    cameras = views.world_to_camera.repeat_interleave(per_view, 1)
    rotations, translations = cameras[..., :3, :3], cameras[..., :3, 3]
    local = (rotations @ gaussians.means[..., None])[..., 0] + translations
    ratio = (flat / local[..., 2]).to(gaussians.dtype)
    moved = (rotations.mT @ (local * ratio[..., None] - translations)[..., None])[..., 0]
    covariances = gaussians.covariance_matrices * ratio[..., None, None] ** 2
    return Gaussians(moved, covariances, gaussians.opacities, gaussians.harmonics)
