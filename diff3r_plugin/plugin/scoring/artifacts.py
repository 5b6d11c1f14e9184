"""Images, maps and scenes that a test writes on request."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import write_image, write_ply
from diff3r_plugin.maps import WeightMaps, error_images, weight_maps
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.strict_json import write_json
from diff3r_plugin.views import Views


def write(
    settings: PluginSettings,
    folder: Path,
    scenes: list[str],
    refinement: Refinement,
    targets: Views,
    before: Tensor,
    after: Tensor,
) -> None:
    """Write what the settings ask for, below ``folder/diff3r/SCENE``.

    Args:
        settings: What to write.
        folder: Where.
        scenes: Names of the batch's scenes.
        refinement: What was refined.
        targets: The target views with their images.
        before: The target views as the host renders them before refinement, ``[B, V, 3, H, W]``.
        after: The same after refinement.
    """
    truth = targets.images
    assert truth is not None
    for index, scene in enumerate(scenes):
        place = folder / "diff3r" / scene
        if settings.save_pictures:
            _write_images(place, refinement, index, truth[index], before[index], after[index])
        if settings.save_scenes and not refinement.without_poses[index]:
            save_scene(refinement, targets, index, scene, place / "scene.pt")
        if settings.save_ply:
            save_ply(refinement.gaussians, index, place / "before.ply")
            save_ply(refinement.refined, index, place / "after.ply")


def _write_images(
    place: Path, refinement: Refinement, index: int, truth: Tensor, before: Tensor, after: Tensor
) -> None:
    """Images and maps as PNG, the maps' scales as JSON, and their values in ``maps.pt``."""
    named = {f"context_{view}": image for view, image in enumerate(refinement.context_images[index])}
    sides = {"before": before, "after": after}
    for name, images in {"truth": truth, **sides}.items():
        named |= {f"target_{view}_{name}": image for view, image in enumerate(images)}
    for name, images in sides.items():
        named |= {f"target_{view}_error_{name}": image for view, image in enumerate(error_images(images, truth))}
    confidence = None if refinement.confidence is None else refinement.confidence[index].detach()
    if confidence is not None:
        named |= {f"confidence_{view}": map_.expand(3, -1, -1) for view, map_ in enumerate(confidence)}
    views, _, height, width = refinement.context_images.shape[1:]
    maps = weight_maps(refinement.weights.tensors(), index, views, height, width)
    scaled = {group: WeightMaps.of(values) for group, values in maps.items()}
    for group, of_group in scaled.items():
        named |= {f"weight_{group}_{view}": image for view, image in enumerate(of_group.images())}
    for name, image in named.items():
        write_image(place / f"{name}.png", image)
    if scaled:
        write_json(place / "weight_ranges.json", {group: of_group.ranges() for group, of_group in scaled.items()})
    if scaled or confidence is not None:
        content = {"weights": {group: values.cpu() for group, values in maps.items()}}
        with atomic_write(place / "maps.pt") as file:
            torch.save(content if confidence is None else {**content, "confidence": confidence.cpu()}, file)


def save_scene(refinement: Refinement, targets: Views, index: int, name: str, path: Path) -> None:
    """Write one scene as the network predicted it, with its views, for ``diff3r_plugin.evaluation``."""
    with torch.inference_mode(False), torch.no_grad():
        one = slice(index, index + 1)
        scene = refinement.gaussians.map(lambda tensor: tensor[one])
        weights = {
            group: weight.detach()[one].cpu().clone() if isinstance(weight, Tensor) and weight.ndim == 3 else weight
            for group, weight in refinement.weights.tensors().items()
        }
        confidence = refinement.confidence
        SavedScene(
            name,
            scene,
            _scene_of(refinement.views, one),
            _scene_of(targets, one),
            weights,
            None if confidence is None else confidence.detach()[one],
        ).save(path)


def _scene_of(views: Views, one: slice) -> Views:
    per_scene = ("images", "world_to_camera", "intrinsics", "near", "far")
    values = {name: getattr(views, name) for name in per_scene}
    return views.replace(**{name: v[one] if isinstance(v, Tensor) and v.ndim else v for name, v in values.items()})


def save_ply(scenes: Gaussians, index: int, path: Path) -> None:
    """Write one scene in the PLY layout that 3D Gaussian splatting viewers read."""
    write_ply(path, scenes.map(lambda tensor: tensor[index : index + 1]))
