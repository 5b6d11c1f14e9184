"""What a refinement starts from: the scene, and the images split into context and held-out ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import (
    PosedImages,
    gaussians_from_points,
    read_colmap_points,
    read_gaussians,
    read_posed_images,
)
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.refine.split import chosen_frames, held_out
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was read.

    Args:
        scene: One scene.
        context: The images to refine on.
        held_out: The images to judge by; may be none.
        size: (H, W) that all images are brought to.
    """

    scene: Gaussians
    context: PosedImages
    held_out: PosedImages
    size: tuple[int, int]

    def fingerprint(self) -> str:
        """Tells these inputs from others: of the scene's numbers, the cameras, and the images' names and sizes."""
        digest = hashlib.sha256(repr(self.size).encode())
        for tensor in (*self.scene.tensors(),):
            digest.update(tensor.contiguous().numpy().tobytes())
        for images in (self.context, self.held_out):
            digest.update(images.world_to_camera.numpy().tobytes() + images.intrinsics.numpy().tobytes())
            for name, source in zip(images.names, images.sources, strict=True):
                length = source.stat().st_size if isinstance(source, Path) else len(source)
                digest.update(f"{name}:{length}".encode())
        return digest.hexdigest()


def read_inputs(settings: RefineSettings) -> Inputs:
    """Read what the settings name; images are not loaded yet.

    Raises:
        FileError: for what cannot be read.
        RefineError: for a split that leaves nothing, or a scene that no camera sees.
    """
    posed = read_posed_images(settings.cameras, settings.images, settings.world)
    posed = posed.undistorted() if settings.undistort else posed
    posed.require_pinholes()
    if settings.scene is None:
        try:
            scene = gaussians_from_points(read_colmap_points(settings.cameras), settings.sh_degree)
        except ValueError as error:
            raise RefineError(f"{settings.cameras}: {error}") from error
    else:
        scene = read_gaussians(settings.scene).to(torch.float32)
        if scene.batch_size != 1:
            raise RefineError(f"{settings.scene} holds {scene.batch_size} scenes; write the one to refine by itself.")
    if not scene.num_gaussians:
        raise RefineError(f"{settings.scene} holds no Gaussians.")
    used = chosen_frames(posed.names, settings.frames)
    out = held_out(posed.names, used, settings.hold_out)
    context = posed.subset([number for number in used if number not in out])
    inputs = Inputs(scene, context, posed.subset(out), context.size(settings.downscale))
    _check_in_view(inputs, settings)
    return inputs


def _check_in_view(inputs: Inputs, settings: RefineSettings) -> None:
    """A scene in another world than the cameras would be refined to nothing without a word."""
    means = inputs.scene.means[0].double()
    seen = 0
    for pose, matrix, size in zip(
        inputs.context.world_to_camera, inputs.context.intrinsics, inputs.context.sizes, strict=True
    ):
        there = means @ pose[:3, :3].T + pose[:3, 3]
        depth = there[:, 2].clamp_min(1e-9)
        column = matrix[0, 0] * there[:, 0] / depth + matrix[0, 2]
        row = matrix[1, 1] * there[:, 1] / depth + matrix[1, 2]
        inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
        seen += int((inside & (there[:, 2] > settings.near) & (there[:, 2] < settings.far)).any())
    if not seen:
        raise RefineError(
            f"No camera of {settings.cameras} has the center of a Gaussian in view: scene and cameras are of different "
            "worlds. Give the cameras that the scene was made with (of a transforms.json with an applied_transform, "
            "try --world original), or check near and far."
        )


def loaded(images: PosedImages, numbers: list[int], inputs: Inputs, settings: RefineSettings) -> Views:
    """Some of the images as views, of the settings and on their device."""
    chosen = images.subset(numbers)
    views = chosen.views(inputs.size, near=settings.near, far=settings.far, background=settings.background)
    return views.to(settings.device)
