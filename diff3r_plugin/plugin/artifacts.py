"""Images, weight maps and scenes that a test writes on request."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.config import VIEW_GROUPS
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import write_image, write_ply
from diff3r_plugin.plugin.refinement import Refinement
from diff3r_plugin.plugin.settings import PluginSettings
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
            for view, image in enumerate(refinement.context_images[index]):
                save_image(image, place / f"context_{view}.png")
            for view in range(truth.shape[1]):
                shown = {"truth": truth, "before": before, "after": after}
                for name, images in shown.items():
                    save_image(images[index, view], place / f"target_{view}_{name}.png")
                for name, images in (("before", before), ("after", after)):
                    error = (images[index, view] - truth[index, view]).abs().mean(0)
                    save_image(heat(error, 0.0, 0.3), place / f"target_{view}_error_{name}.png")
            if refinement.confidence is not None:
                for view, image in enumerate(refinement.confidence[index]):
                    save_image(image.expand(3, -1, -1), place / f"confidence_{view}.png")
            maps_of_groups = weight_maps(refinement, index)
            if maps_of_groups:
                ranges = {group: [float(maps.min()), float(maps.max())] for group, maps in maps_of_groups.items()}
                write_json(place / "weight_ranges.json", ranges)
            for group, maps in maps_of_groups.items():
                logs = maps.log10()
                for view, image in enumerate(logs):
                    save_image(
                        heat(image, float(logs.min()), float(logs.max()) + 1e-6), place / f"weight_{group}_{view}.png"
                    )
        if settings.save_scenes and not refinement.without_poses[index]:
            save_scene(refinement, targets, index, scene, place / "scene.pt")
        if settings.save_ply:
            save_ply(refinement.gaussians, index, place / "before.ply")
            save_ply(refinement.refined, index, place / "after.ply")


def weight_maps(refinement: Refinement, index: int) -> dict[str, Float[Tensor, "V H W"]]:
    """Geometric mean of the proximal weights of each pixel's Gaussians, for groups whose weights vary by pixel."""
    views, height, width = (refinement.context_images.shape[axis] for axis in (1, 3, 4))
    maps = {}
    for group, weight in refinement.weights.tensors().items():
        if group in VIEW_GROUPS or not isinstance(weight, Tensor) or weight.ndim != 3:
            continue
        per_gaussian = weight.detach()[index].float().log().mean(-1)
        if per_gaussian.numel() % (views * height * width) == 0:
            maps[group] = per_gaussian.reshape(views, height, width, -1).mean(-1).exp()
    return maps


def heat(values: Float[Tensor, "H W"], low: float, high: float) -> Float[Tensor, "3 H W"]:
    """A map as an image: black, red, yellow, white from low to high."""
    t = ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
    return torch.stack([(3 * t).clamp(0, 1), (3 * t - 1).clamp(0, 1), (3 * t - 2).clamp(0, 1)])


def save_image(image: Float[Tensor, "3 H W"], path: Path) -> None:
    """Write an image in [0, 1] as PNG."""
    write_image(path, image)


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
