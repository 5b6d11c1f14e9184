"""What a refinement starts from: the scene, and the images split into context and held-out ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import (
    PointCloud,
    PosedImages,
    SplatRendering,
    gaussians_from_points,
    read_points,
    read_posed_images,
    read_splats,
)
from diff3r_plugin.io.errors import tell
from diff3r_plugin.io.splats import USUAL_RENDERING, tell_of_training
from diff3r_plugin.io.transforms_json import World
from diff3r_plugin.io.world_frames import moved, origin_for, shift
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.refine.split import chosen_frames, held_out
from diff3r_plugin.views import Views

CACHE_BYTES = 1 << 28
"""Of images as numbers, which are read from their files once."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was read.

    Args:
        scene: One scene.
        context: The images to refine on.
        held_out: The images to judge by; may be none.
        size: (H, W) that all images are brought to.
        origin: What positions and cameras are counted from, where the files' own origin is too far away for float32.
        rendering: How the scene was made to be rendered, and is.
    """

    scene: Gaussians
    context: PosedImages
    held_out: PosedImages
    size: tuple[int, int]
    origin: tuple[float, float, float] | None = None
    rendering: SplatRendering = USUAL_RENDERING

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
    world = world_of(settings)
    posed = read_posed_images(settings.cameras, settings.images, world)
    used = chosen_frames(posed.names, settings.frames)
    out = held_out(posed.names, used, settings.hold_out, posed.splits)
    posed.subset(used).require_images()
    posed = posed.undistorted() if settings.undistort else posed
    posed.subset(used).require_pinholes()
    origin = origin_for(posed.subset(used))
    if origin is not None:
        posed = moved(posed, shift(-origin))
    scene, rendering = _read_scene(settings, world, origin)
    context = posed.subset([number for number in used if number not in out])
    inputs = Inputs(
        scene,
        context,
        posed.subset(out),
        context.size(settings.downscale),
        None if origin is None else tuple(origin.tolist()),
        rendering,
    )
    _check_in_view(inputs, settings)
    return inputs


def world_of(settings: RefineSettings) -> World | Path:
    """Whose world the scene lives in, to which cameras and points are brought.

    What nerfstudio trained lives in a world of its own; the file that says which lies beside the run.
    """
    if settings.world.lower().endswith(".json"):
        return Path(settings.world)
    if settings.world != "auto":
        return cast(World, settings.world)
    if settings.scene is None:
        return "file"
    beside = settings.scene.parent / "dataparser_transforms.json"
    if not beside.is_file():
        return "file"
    tell(
        beside, "it lies beside the scene, so cameras are brought into nerfstudio's world (--world file: they are not)."
    )
    return beside


def _read_scene(
    settings: RefineSettings, world: World | Path, origin: Float[Tensor, " 3"] | None
) -> tuple[Gaussians, SplatRendering]:
    """The scene with positions counted from the origin, and how it was made to be rendered."""
    if settings.scene is None:
        place = settings.points or settings.cameras
        points = read_points(place, world)
        if origin is not None:
            points = PointCloud(points.positions - origin, points.colors)
        try:
            return gaussians_from_points(points, settings.sh_degree), SplatRendering()
        except ValueError as error:
            raise RefineError(f"{place}: {error}") from error
    splats = read_splats(settings.scene, None if origin is None else origin.tolist())
    tell_of_training(settings.scene, settings.background)
    if splats.gaussians.batch_size != 1:
        raise RefineError(
            f"{settings.scene} holds {splats.gaussians.batch_size} scenes; write the one to refine by itself."
        )
    if not splats.gaussians.num_gaussians:
        raise RefineError(f"{settings.scene} holds no Gaussians.")
    return splats.gaussians, splats.rendering


def _check_in_view(inputs: Inputs, settings: RefineSettings) -> None:
    """A scene in another coordinate frame than the cameras' would be refined to nothing without a word."""
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
            f"No camera of {settings.cameras} has the center of a Gaussian in view: scene and cameras are in "
            "different coordinate frames. Give the cameras that the scene was made with (of a transforms.json with an "
            "applied_transform, try --world original; of nerfstudio's splats, --world dataparser_transforms.json), or "
            "check near and far."
        )


class StoredImages:
    """Implements :class:`~diff3r_plugin.refine.sources.ViewSource` with the files of images.

    Args:
        images: The context images of the inputs, the held-out ones, or some of them.
        inputs: What was read.
        settings: How images become views, and on which device.
        cache_bytes: Images that were loaded are kept as long as all of them fit into so many bytes; further ones are
            read each time.
    """

    def __init__(
        self, images: PosedImages, inputs: Inputs, settings: RefineSettings, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._images, self._rendering, self._settings = images, inputs.rendering, settings
        self._kept: dict[int, Views] = {}
        self._left = cache_bytes // (12 * inputs.size[0] * inputs.size[1])
        self.names, self.image_size = images.names, inputs.size
        self.world_to_camera = images.world_to_camera
        scales = [inputs.size[1] / size[1] for size in images.sizes]
        matrices = images.intrinsics[:, 0, 0].tolist()
        self.focal = max((focal * scale for focal, scale in zip(matrices, scales, strict=True)), default=0.0)

    def load(self, numbers: Sequence[int]) -> tuple[Views, Float[Tensor, "1 V H W"] | None]:
        new = [number for number in numbers if number not in self._kept]
        read = {number: self._one(number) for number in new}
        for number in new[: max(0, self._left - len(self._kept))]:
            self._kept[number] = read[number]
        views = [read[number] if number in read else self._kept[number] for number in numbers]
        joined = views[0].replace(
            **{
                name: torch.cat([getattr(view, name) for view in views], 1)
                for name in ("world_to_camera", "intrinsics", "images", "near", "far")
            }
        )
        device = self._settings.device
        weights = self._images.subset(numbers).pixel_weights(self.image_size)
        return joined.to(device), None if weights is None else weights.to(device)

    def _one(self, number: int) -> Views:
        settings, how = self._settings, self._rendering
        chosen = self._images.subset([number])
        views = chosen.views(self.image_size, near=settings.near, far=settings.far, background=settings.background)
        return views.replace(antialiased=how.antialiased, dilation=how.dilation).to("cpu")
