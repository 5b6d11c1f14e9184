"""Images, weight maps and scenes that a test writes on request."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.plugin.refinement import Refinement
from diff3r_plugin.plugin.settings import PluginSettings
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
                (place / "weight_ranges.json").write_text(json.dumps(ranges))
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
        if group == "poses" or not isinstance(weight, Tensor) or weight.ndim != 3:
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
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu()
    height, width, _ = pixels.shape
    Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist())).save(path)


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
    """Write one scene in the PLY layout that 3D Gaussian splatting viewers read (log scales, logit opacities)."""
    covariances = scenes.with_covariances().covariances
    assert covariances is not None
    variances, axes = torch.linalg.eigh(covariances[index].double())
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    harmonics = scenes.harmonics[index].double()
    columns = {
        **dict(zip("xyz", scenes.means[index].double().unbind(-1), strict=True)),
        **{f"f_dc_{c}": harmonics[:, c, 0] for c in range(3)},
        **{f"f_rest_{i}": v for i, v in enumerate(harmonics[:, :, 1:].flatten(1).unbind(-1))},
        "opacity": torch.logit(scenes.opacities[index].double(), eps=1e-6),
        **{f"scale_{i}": v for i, v in enumerate(variances.clamp_min(1e-20).sqrt().log().unbind(-1))},
        **{f"rot_{i}": v for i, v in enumerate(quaternions(axes).unbind(-1))},
    }
    table = torch.stack(list(columns.values()), -1).float().cpu()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in columns] + ["end_header", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = table.flatten().tolist()
    path.write_bytes("\n".join(header).encode() + struct.pack(f"<{len(flat)}f", *flat))


def quaternions(rotations: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 4"]:
    """Unit wxyz quaternions of rotation matrices (the largest component, found first, keeps the division safe)."""
    r = rotations
    trace = r.diagonal(dim1=-2, dim2=-1)
    x, y, z = trace.unbind(-1)
    squares = torch.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], -1).clamp_min(0)
    candidates = torch.stack(
        [
            torch.stack([squares[:, 0], r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], -1),
            torch.stack([r[:, 2, 1] - r[:, 1, 2], squares[:, 1], r[:, 1, 0] + r[:, 0, 1], r[:, 0, 2] + r[:, 2, 0]], -1),
            torch.stack([r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] + r[:, 0, 1], squares[:, 2], r[:, 2, 1] + r[:, 1, 2]], -1),
            torch.stack([r[:, 1, 0] - r[:, 0, 1], r[:, 0, 2] + r[:, 2, 0], r[:, 2, 1] + r[:, 1, 2], squares[:, 3]], -1),
        ],
        1,
    )
    best = squares.argmax(-1)
    chosen = candidates[torch.arange(len(best), device=best.device), best]
    return chosen / chosen.norm(dim=-1, keepdim=True)
