"""Images with their cameras, as readers give them: nothing is loaded before it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.errors import FileError, MissingImageError, tell
from diff3r_plugin.io.images import QUARTER_TURNS, exif_orientation, image_size, read_image, read_mask
from diff3r_plugin.io.lenses import AnyLens, Undistortion, undistortion
from diff3r_plugin.views import Views

ASPECT_TOLERANCE = 0.02
"""Relative difference of the scales in x and y that rounding an image's size leaves."""
PER_FRAME_DEFAULTS = {"lenses": None, "undistortions": None, "masks": None, "problems": None, "splits": ""}
"""What a field holds for each frame where it was left empty."""


@dataclass(frozen=True)
class Mask:
    """Which pixels of an image do not count.

    Args:
        file: An image.
        ignored: Its color where pixels do not count: "black" (COLMAP, nerfstudio) or "white" (instant-ngp's dynamic
            masks). Black is zero in all channels, white anything else.
    """

    file: Path
    ignored: Literal["black", "white"] = "black"


@dataclass(frozen=True, eq=False)
class PosedImages:
    """F images of one scene, where they are and which cameras took them.

    Args:
        path: The file or folder that the cameras come from; errors name it.
        names: Of the images, F of them.
        sources: Each the file of an image, or its bytes.
        world_to_camera: ``[F, 4, 4]``, OpenCV axes, float64.
        intrinsics: ``[F, 3, 3]``, pixels of ``sizes``, float64.
        sizes: (H, W) that the intrinsics belong to; a file may have another resolution of the same shape.
        lenses: Each a lens that distorts or None; empty where none does.
        undistortions: Each what an image goes through once it is loaded, or None; empty where nothing has to be done.
        masks: Each which pixels count, or None for all; empty where there are none.
        problems: Each why the image is unavailable, or None; empty where nothing is known to be wrong.
        splits: Each "train", "val" or "test" where the file says so, or ""; empty where it does not.

    Raises:
        ValueError: if the lengths disagree.
    """

    path: Path
    names: tuple[str, ...]
    sources: tuple[Path | bytes, ...]
    world_to_camera: Float[Tensor, "F 4 4"]
    intrinsics: Float[Tensor, "F 3 3"]
    sizes: tuple[tuple[int, int], ...]
    lenses: tuple[AnyLens | None, ...] = ()
    undistortions: tuple[Undistortion | None, ...] = ()
    masks: tuple[Mask | None, ...] = ()
    problems: tuple[FileError | None, ...] = ()
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in PER_FRAME_DEFAULTS.items():
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * len(self.names))  # the class is frozen
        if len({len(getattr(self, field.name)) for field in fields(self) if field.name != "path"}) != 1:
            lengths = {field.name: len(getattr(self, field.name)) for field in fields(self) if field.name != "path"}
            raise ValueError(f"PosedImages must have as many names as sources, poses and so on, got {lengths}.")

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, numbers: Sequence[int]) -> PosedImages:
        """Some of the images, in the order of their numbers here."""
        chosen = list(numbers)
        per_frame: dict[str, Any] = {
            field.name: tuple(getattr(self, field.name)[i] for i in chosen)
            for field in fields(self)
            if field.name not in ("path", "world_to_camera", "intrinsics")
        }
        return replace(
            self, **per_frame, world_to_camera=self.world_to_camera[chosen], intrinsics=self.intrinsics[chosen]
        )

    def undistorted(self) -> PosedImages:
        """The same images as pinholes would have taken them, with a longer focal length where that needs one.

        Each is resampled when it is loaded, after it has been brought to its size.

        Raises:
            FileError: if a lens distorts too much.
            MissingPackageError: for one of COLMAP's rarer lens models without the extra ``diff3r-plugin[sfm]``.
        """
        undone: dict[tuple[AnyLens, tuple[float, ...], tuple[int, int]], Undistortion] = {}
        found: list[Undistortion | None] = []
        for lens, matrix, size, done in zip(self.lenses, self.intrinsics, self.sizes, self.undistortions, strict=True):
            if lens is None:
                found.append(done)
                continue
            key = (lens, tuple(matrix.flatten().tolist()), size)
            if key not in undone:
                try:
                    undone[key] = undistortion(lens, matrix, size)
                except ValueError as error:
                    raise FileError(self.path, f"{error}.", "Run 'colmap image_undistorter'.") from error
            found.append(undone[key])
        matrices = [matrix if u is None else u.intrinsics for matrix, u in zip(self.intrinsics, found, strict=True)]
        return replace(self, intrinsics=torch.stack(matrices), lenses=(), undistortions=tuple(found))

    def require_pinholes(self) -> None:
        """Raise FileError if a lens distorts: Gaussians are rendered through pinholes."""
        for name, lens in zip(self.names, self.lenses, strict=True):
            if lens is not None:
                raise FileError(
                    self.path,
                    f"the lens of {name!r} distorts ({lens}), and Gaussians are rendered through pinholes.",
                    "Undistort the images: 'colmap image_undistorter' makes a folder to give instead; or let them be "
                    "undistorted as they are loaded (--undistort, or .undistorted()).",
                )

    def require_images(self) -> None:
        """Raise FileError if one of these images is missing, cannot be read, or is the file of another one."""
        wrong = [problem for problem in self.problems if problem is not None]
        if wrong:
            what = f"{len(wrong)} of its {len(self)} images are missing or not to be used, the first is: "
            if all(isinstance(p, MissingImageError) for p in wrong):
                what = f"{len(wrong)} of its {len(self)} images are missing, the first is "
            raise FileError(wrong[0].path, what + wrong[0].problem, wrong[0].cure)
        names: dict[Path, str] = {}
        for name, source in zip(self.names, self.sources, strict=True):
            if isinstance(source, bytes):
                continue
            if source in names:
                raise FileError(
                    self.path,
                    f"two frames, {names[source]!r} and {name!r}, have the same image {source}.",
                    "Remove one of them from the file, or leave it out (--frames).",
                )
            names[source] = name

    def size(self, downscale: int = 1) -> tuple[int, int]:
        """(H, W) of the first image, divided by ``downscale``: what :meth:`views` brings all images to."""
        height, width = image_size(self.sources[0], self.names[0])
        if self._turned(0):
            height, width = width, height
        return max(height // downscale, 1), max(width // downscale, 1)

    def views(
        self,
        size: tuple[int, int] | None = None,
        *,
        near: float = 0.01,
        far: float = 1e10,
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Views:
        """Load the images as one scene's views, float32; intrinsics are scaled along with the images.

        Args:
            size: (H, W) of all images; by default that of the first. Those of another size are resized.
            near: See :class:`~diff3r_plugin.Views`.
            far: See :class:`~diff3r_plugin.Views`.
            background: Color behind the Gaussians, and behind transparent pixels.

        Raises:
            FileError: if there are no images, one cannot be read, one has another shape than its camera says, or its
                lens distorts.
        """
        self.require_pinholes()
        self.require_images()
        if not len(self):
            raise FileError(self.path, "it has no images.", "Check that the cameras were registered.")
        height, width = size or self.size()
        images, matrices = [], []
        for number, (source, name) in enumerate(zip(self.sources, self.names, strict=True)):
            undo = self.undistortions[number]
            image = read_image(source, (height, width), background, name, self._turned(number))
            images.append(image if undo is None else undo.apply(image))
            matrices.append(scaled_intrinsics(self.intrinsics[number], self.sizes[number], (height, width)))
        return Views(
            self.world_to_camera.float()[None],
            torch.stack(matrices).float()[None],
            torch.stack(images)[None],
            near,
            far,
            background=background,
        )

    def pixel_weights(self, size: tuple[int, int]) -> Float[Tensor, "1 F H W"] | None:
        """How much each pixel of :meth:`views` counts, 0 to 1, by the masks; None where no image has one.

        Args:
            size: (H, W) of all images.

        Raises:
            FileError: if a mask cannot be read.
        """
        if not any(self.masks):
            return None
        weights = torch.ones(1, len(self), *size)
        for number, (mask, undo) in enumerate(zip(self.masks, self.undistortions, strict=True)):
            if mask is not None:
                kept = read_mask(mask.file, size, mask.ignored, self._turned(number))
                weights[0, number] = kept if undo is None else undo.apply(kept[None])[0]
        return weights

    def _turned(self, number: int) -> bool:
        """Whether an image has to be turned as its EXIF orientation says, to have the shape of its camera.

        Pixels are taken as they are stored where that fits: COLMAP, nerfstudio and instant-ngp do not turn them.
        """
        name, source, camera = self.names[number], self.sources[number], self.sizes[number]
        found = image_size(source, name)
        orientation = exif_orientation(source, name)
        if _same_shape(found, camera):
            if orientation != 1:
                tell(
                    self.path,
                    f"photographs have the EXIF orientation {orientation}; their pixels are taken as they are stored, "
                    "which is the shape that the cameras have.",
                )
            return False
        if orientation in QUARTER_TURNS and _same_shape(found[::-1], camera):
            return True
        raise FileError(
            self.path,
            f"the image {name!r} has {found[1]} x {found[0]} pixels and its camera {camera[1]} x {camera[0]}: "
            "another shape.",
            "Give the images that the cameras were made from (undistorted, not cropped or turned).",
        )


def _same_shape(found: tuple[int, ...], expected: tuple[int, int]) -> bool:
    """Whether sizes differ by a factor alone, up to rounding."""
    scale_y, scale_x = found[0] / expected[0], found[1] / expected[1]
    rounding = 1 / min(found) + 1 / min(expected)
    return abs(scale_x / scale_y - 1) <= ASPECT_TOLERANCE + rounding


def scaled_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int], new_size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics in pixels of an image that was resized from ``size`` to ``new_size``, both (H, W).

    Exact as pixel centers lie at halves: (0.5, 0.5) is the first one's at every resolution.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io import scaled_intrinsics
        >>> scaled_intrinsics(torch.tensor([[50.0, 0, 32], [0, 50, 16], [0, 0, 1]]), (32, 64), (16, 32))[0]
        tensor([25.,  0., 16.])
    """
    scale = torch.tensor([new_size[1] / size[1], new_size[0] / size[0], 1.0], dtype=torch.float64)
    return (intrinsics.double() * scale[:, None]).to(intrinsics.dtype)
