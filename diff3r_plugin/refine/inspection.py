"""What was read of a scene and its images, in words and pictures, before anything is refined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io import PosedImages, write_image
from diff3r_plugin.io.world_frames import camera_centers
from diff3r_plugin.refine.inputs import Inputs, StoredImages, world_of
from diff3r_plugin.refine.plausibility import share_in_view, tell_of_doubt
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.scoring import RenderedView
from diff3r_plugin.refine.settings import RefineSettings

BAR = 4
"""Pixels between the parts of a picture."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Args:
        lines: To be read.
        pictures: Files that were written: image, rendering and their difference side by side.
        psnr: Mean over the drawn views, dB.
    """

    lines: list[str]
    pictures: list[Path]
    psnr: float


def inspect(inputs: Inputs, settings: RefineSettings, views: int) -> Inspection:
    """Draw the first images beside the scene seen by their cameras, and say what was read.

    Args:
        inputs: What was read.
        settings: Which files, and how they are rendered; pictures go to ``settings.out``.
        views: How many images are drawn.

    Raises:
        FileError: for an image that cannot be read.
    """
    first = inputs.context.subset(range(min(views, len(inputs.context))))
    source = StoredImages(first, inputs, settings)
    refinement = Refinement.of(settings, inputs.scene, source, from_points=settings.scene is None)
    lines = [
        *_scene_lines(inputs, settings),
        *_camera_lines(inputs, settings),
        "",
        "view  PSNR, dB  depths of Gaussians",
    ]
    pictures, scores = [], []
    for number, name in enumerate(first.names):
        view = refinement.render(inputs.scene, number)
        scores.append(view.scores())
        pictures.append(settings.out / f"{number:02d}.png")
        write_image(pictures[-1], _picture(view))
        lines.append(f"{name}  {view.psnr():.2f}  {_depths(inputs, settings, first, number)}")
    mean = fmean(score["psnr"] for score in scores)
    lines.append(f"start: {mean:.2f} dB over {len(scores)} views")
    if settings.scene is not None:
        tell_of_doubt(replace(inputs, context=first), settings, scores)
    return Inspection(lines, pictures, mean)


def _scene_lines(inputs: Inputs, settings: RefineSettings) -> list[str]:
    scene = inputs.scene
    assert scene.scales is not None
    low, middle, high = _quantiles(scene.scales[0].amax(-1))
    thin, usual, dense = _quantiles(scene.opacities[0])
    rendering = inputs.rendering
    how = f"antialiased, dilation {rendering.dilation:g} px²" if rendering.antialiased else "as usual"
    return [
        f"scene    {settings.scene or settings.cameras}: {scene.num_gaussians} Gaussians, degree {scene.sh_degree}",
        f"         sizes {low:.3g} to {high:.3g}, median {middle:.3g}; opacities {thin:.2f} to {dense:.2f}, median "
        f"{usual:.2f}",
        f"         rendered {how}; {share_in_view(inputs):.0%} of the centers are in view of a camera",
    ]


def _quantiles(values: Float[Tensor, " N"]) -> Iterable[float]:
    """The 5 %, 50 % and 95 % ones."""
    ordered = values.double().sort().values
    return (float(ordered[round(q * (len(ordered) - 1))]) for q in (0.05, 0.5, 0.95))


def _camera_lines(inputs: Inputs, settings: RefineSettings) -> list[str]:
    images = inputs.context
    splits = [split for split in ("train", "val", "test") if split in (*images.splits, *inputs.held_out.splits)]
    sizes = sorted(set(images.sizes))
    shown = ", ".join(f"{width} x {height}" for height, width in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
    focal = images.intrinsics[:, 0, 0]
    width = torch.tensor([size[1] for size in images.sizes], dtype=torch.float64)
    fields = 2 * torch.rad2deg(torch.atan(width / (2 * focal.double())))
    centers = camera_centers(images)
    middle = centers.median(0).values
    origin = "" if inputs.origin is None else f", counted from {', '.join(f'{c:g}' for c in inputs.origin)} (far away)"
    undone = sum(undo is not None for undo in images.undistortions)
    masks = sum(mask is not None for mask in images.masks)
    return [
        f"cameras  {settings.cameras}: {len(images)} images used, {len(inputs.held_out)} held out"
        + (f"; the file names {', '.join(splits)}" if splits else ""),
        f"         cameras of {shown} pixels, images read as {inputs.size[1]} x {inputs.size[0]}; field of view "
        f"{float(fields.min()):.1f}° to {float(fields.max()):.1f}°",
        f"         lenses: {_lens_text(images, undone)}; masks: {masks or 'none'}",
        f"         world: {world_of(settings)}{origin}; cameras within "
        f"{float((centers - middle).norm(dim=-1).max()):.3g} of their middle",
        f"         drawn between near {settings.near:g} and far {settings.far:g}",
    ]


def _lens_text(images: PosedImages, undone: int) -> str:
    if not undone:
        return "pinholes"
    kinds = dict.fromkeys(str(undo.lens) for undo in images.undistortions if undo is not None)
    return f"undistorted, {undone} of {len(images)} ({'; '.join(list(kinds)[:3])})"


def _picture(view: RenderedView) -> Float[Tensor, "3 H W"]:
    truth, drawn = view.view.given_images[0, 0].cpu(), view.rendering[0, 0].cpu().clamp(0, 1)
    difference = (truth - drawn).abs()
    if view.weights is not None:
        difference = difference * view.weights[0, 0].cpu()
    gap = torch.ones(3, truth.shape[1], BAR)
    return torch.cat([truth, gap, drawn, gap, difference], -1)


def _depths(inputs: Inputs, settings: RefineSettings, images: PosedImages, number: int) -> str:
    """Of the Gaussians in an image, and what near and far leave out."""
    pose, matrix = images.world_to_camera[number], images.intrinsics[number]
    height, width = images.sizes[number]
    there = inputs.scene.means[0].double().cpu() @ pose[:3, :3].T + pose[:3, 3]
    depth = there[:, 2]
    column = matrix[0, 0] * there[:, 0] / depth + matrix[0, 2]
    row = matrix[1, 1] * there[:, 1] / depth + matrix[1, 2]
    inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not inside.any():
        return "none in view"
    seen = depth[inside].sort().values
    low, high = (float(seen[round(q * (len(seen) - 1))]) for q in (0.01, 0.99))
    left = int(((seen <= settings.near) | (seen >= settings.far)).sum())
    return f"{low:.3g} to {high:.3g}, {len(seen)} in view" + (f", {left} cut by near and far" if left else "")
