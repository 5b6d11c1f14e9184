"""Images with their cameras, as readers give them: nothing is loaded before it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.errors import FileError
from diff3r_plugin.io.images import image_size, read_image
from diff3r_plugin.io.lenses import Lens, Undistortion, undistortion
from diff3r_plugin.views import Views

ASPECT_TOLERANCE = 0.02
"""Relative difference of the scales in x and y that rounding an image's size leaves."""


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

    Raises:
        ValueError: if the lengths disagree.
    """

    path: Path
    names: tuple[str, ...]
    sources: tuple[Path | bytes, ...]
    world_to_camera: Float[Tensor, "F 4 4"]
    intrinsics: Float[Tensor, "F 3 3"]
    sizes: tuple[tuple[int, int], ...]
    lenses: tuple[Lens | None, ...] = ()
    undistortions: tuple[Undistortion | None, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lenses", "undistortions"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * len(self.names))  # the class is frozen
        if len({len(getattr(self, field.name)) for field in fields(self) if field.name != "path"}) != 1:
            lengths = {field.name: len(getattr(self, field.name)) for field in fields(self) if field.name != "path"}
            raise ValueError(f"PosedImages must have as many names as sources, poses and so on, got {lengths}.")

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, numbers: Sequence[int]) -> PosedImages:
        """Some of the images, in the order of their numbers here."""
        chosen = list(numbers)
        return PosedImages(
            self.path,
            tuple(self.names[i] for i in chosen),
            tuple(self.sources[i] for i in chosen),
            self.world_to_camera[chosen],
            self.intrinsics[chosen],
            tuple(self.sizes[i] for i in chosen),
            tuple(self.lenses[i] for i in chosen),
            tuple(self.undistortions[i] for i in chosen),
        )

    def undistorted(self) -> PosedImages:
        """The same images as pinholes would have taken them, with a longer focal length where that needs one.

        Each is resampled when it is loaded, after it has been brought to its size.

        Raises:
            FileError: if a lens distorts too much.
        """
        undone: dict[tuple[Lens, tuple[float, ...], tuple[int, int]], Undistortion] = {}
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

    def size(self, downscale: int = 1) -> tuple[int, int]:
        """(H, W) of the first image's file, divided by ``downscale``: what :meth:`views` brings all images to."""
        height, width = image_size(self.sources[0], self.names[0])
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
        if not len(self):
            raise FileError(self.path, "it has no images.", "Check that the cameras were registered.")
        height, width = size or self.size()
        images, matrices = [], []
        for name, source, matrix, camera_size, undo in zip(
            self.names, self.sources, self.intrinsics, self.sizes, self.undistortions, strict=True
        ):
            self._check_shape(name, image_size(source, name), camera_size)
            image = read_image(source, (height, width), background, name)
            images.append(image if undo is None else undo.apply(image))
            matrices.append(scaled_intrinsics(matrix, camera_size, (height, width)))
        return Views(
            self.world_to_camera.float()[None],
            torch.stack(matrices).float()[None],
            torch.stack(images)[None],
            near,
            far,
            background=background,
        )

    def _check_shape(self, name: str, found: tuple[int, int], expected: tuple[int, int]) -> None:
        scale_y, scale_x = found[0] / expected[0], found[1] / expected[1]
        rounding = 1 / min(found) + 1 / min(expected)
        if abs(scale_x / scale_y - 1) > ASPECT_TOLERANCE + rounding:
            raise FileError(
                self.path,
                f"the image {name!r} has {found[1]} x {found[0]} pixels and its camera {expected[1]} x {expected[0]}: "
                "another shape.",
                "Give the images that the cameras were made from (undistorted, not cropped or turned).",
            )


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
