"""The cameras a scene is seen by, with or without the images they took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.argument_types import batch_hint, kind, require_device, require_tensor

DILATION = 0.3
"""Usual low-pass filter of 3D Gaussian splatting, px²."""


@dataclass(frozen=True, eq=False, init=False)
class Views:
    """V pinhole cameras for each of B scenes, and optionally their images.

    Args:
        world_to_camera: ``[B, V, 4, 4]``, OpenCV axes (x right, y down, z forward).
        intrinsics: ``[B, V, 3, 3]`` in pixels; the center of the first pixel is (0.5, 0.5); skew is ignored.
        images: ``[B, V, 3, H, W]`` in [0, 1]; none when the cameras are only to be rendered.
        near: Gaussians at depths <= near are not drawn; a number or ``[B, V]``, world units. Kept as ``[B, V]``.
        far: Gaussians at depths >= far are not drawn; a number or ``[B, V]``, world units. Kept as ``[B, V]``.
        image_size: (H, W); taken from ``images`` when they are given.
        background: Color behind all Gaussians, ``[3]`` tensor or three numbers. Kept as a tensor.
        antialiased: Opacities are multiplied by √(det Σ / det(Σ + dilation I)), Σ a Gaussian's covariance in the image
            (Mip-Splatting's screen-space filter; gsplat's ``rasterize_mode="antialiased"``).
        dilation: What is added to both diagonal entries of Σ, px², >= 0 (gsplat's ``eps2d``).

    Raises:
        TypeError: if something is no tensor, or does not hold floating-point numbers.
        ValueError: if a shape or a device does not fit the others, there is neither ``images`` nor ``image_size``, or
            ``dilation`` is negative or not finite.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Views
        >>> K = torch.tensor([[50.0, 0, 16], [0, 50, 16], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> views = Views(torch.eye(4).expand(1, 2, 4, 4), K, image_size=(32, 32))
        >>> views.num_views, views.image_size
        (2, (32, 32))
    """

    world_to_camera: Float[Tensor, "B V 4 4"]
    intrinsics: Float[Tensor, "B V 3 3"]
    images: Float[Tensor, "B V 3 H W"] | None
    near: Float[Tensor, "B V"]
    far: Float[Tensor, "B V"]
    image_size: tuple[int, int]
    background: Float[Tensor, " 3"]
    antialiased: bool
    dilation: float

    # Written out because it takes more than the fields hold: numbers, and cameras without images.
    def __init__(
        self,
        world_to_camera: Float[Tensor, "B V 4 4"],
        intrinsics: Float[Tensor, "B V 3 3"],
        images: Float[Tensor, "B V 3 H W"] | None = None,
        near: float | Float[Tensor, "B V"] = 0.01,
        far: float | Float[Tensor, "B V"] = 1e10,
        image_size: tuple[int, int] | None = None,
        background: tuple[float, float, float] | Float[Tensor, " 3"] = (0.0, 0.0, 0.0),
        antialiased: bool = False,
        dilation: float = DILATION,
    ) -> None:
        given = {"world_to_camera": world_to_camera, "intrinsics": intrinsics, "images": images}
        for name, tensor in given.items():
            if tensor is not None or name != "images":
                require_tensor(name, tensor)
                require_device(name, tensor, world_to_camera.device, "world_to_camera")  # type: ignore[arg-type]
        if world_to_camera.ndim != 4 or tuple(world_to_camera.shape[2:]) != (4, 4):
            hint = batch_hint(world_to_camera, 4) or _row_hint(world_to_camera)
            raise ValueError(f"world_to_camera must have shape [B, V, 4, 4], got {list(world_to_camera.shape)}.{hint}")
        B, V = world_to_camera.shape[:2]
        if tuple(intrinsics.shape) != (B, V, 3, 3):
            hint = batch_hint(intrinsics, 4)
            raise ValueError(f"intrinsics must have shape {[B, V, 3, 3]}, got {list(intrinsics.shape)}.{hint}")
        if images is not None:
            if images.ndim != 5 or tuple(images.shape[:3]) != (B, V, 3):
                hint = batch_hint(images, 5) or _channels_hint(images, (B, V))
                raise ValueError(f"images must have shape [{B}, {V}, 3, H, W], got {list(images.shape)}.{hint}")
            size = (images.shape[3], images.shape[4])
            if image_size is not None and _two_numbers(image_size) != size:
                raise ValueError(f"image_size {tuple(image_size)} disagrees with images of size {size}.")
            image_size = size
        if image_size is None:
            raise ValueError("Give images, or image_size=(H, W) for cameras without images.")
        height, width = _two_numbers(image_size)
        try:
            color = torch.as_tensor(background, dtype=world_to_camera.dtype, device=world_to_camera.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"background must be three numbers in [0, 1], got {background!r}.") from None
        if tuple(color.shape) != (3,):
            raise ValueError(f"background must be three numbers, got shape {list(color.shape)}.")
        values = {
            "world_to_camera": world_to_camera,
            "intrinsics": intrinsics,
            "images": images,
            "near": _per_view("near", near, world_to_camera),
            "far": _per_view("far", far, world_to_camera),
            "image_size": (int(height), int(width)),
            "background": color,
            "antialiased": _flag(antialiased),
            "dilation": _dilation(dilation),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def batch_size(self) -> int:
        """Scenes, B."""
        return self.world_to_camera.shape[0]

    @property
    def num_views(self) -> int:
        """Cameras for each scene, V."""
        return self.world_to_camera.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the cameras."""
        return self.world_to_camera.dtype

    @property
    def device(self) -> torch.device:
        """Of the cameras."""
        return self.world_to_camera.device

    @property
    def given_images(self) -> Float[Tensor, "B V 3 H W"]:
        """The images, ; raises if they are absent.

        Raises:
            ValueError: if the views have none.
        """
        if self.images is None:
            raise ValueError("These Views have images=None, but images are needed here: Views(..., images=...).")
        return self.images

    def replace(self, **changes: Any) -> Views:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Views:
        """Apply ``function`` to every tensor that is present."""
        return Views(
            function(self.world_to_camera),
            function(self.intrinsics),
            None if self.images is None else function(self.images),
            function(self.near),
            function(self.far),
            self.image_size,
            function(self.background),
            self.antialiased,
            self.dilation,
        )

    def detach(self) -> Views:
        """The same numbers without an autograd graph."""
        return self.map(lambda t: t.detach())

    def to(self, *args: Any, **kwargs: Any) -> Views:
        """``torch.Tensor.to`` on every tensor; gradients pass through it as they do there."""
        return self.map(lambda t: t.to(*args, **kwargs))


def _flag(antialiased: object) -> bool:
    """Whether splats are dimmed by what the dilation adds to their area, checked."""
    if not isinstance(antialiased, bool):
        raise TypeError(f"antialiased must be True or False, got {antialiased!r}.")
    return antialiased


def _dilation(dilation: object) -> float:
    """What is added to both diagonal entries of covariances in the image, checked."""
    if isinstance(dilation, bool) or not isinstance(dilation, Real):
        raise TypeError(f"dilation must be a number of px², got {kind(dilation)}.")
    if not 0 <= float(dilation) < float("inf"):
        raise ValueError(f"dilation must be a finite number >= 0 (px²; 0.3 is usual), got {dilation!r}.")
    return float(dilation)


def _row_hint(world_to_camera: Tensor) -> str:
    """What to do with 3×4 cameras."""
    if tuple(world_to_camera.shape[-2:]) == (3, 4):
        return " Append the row (0, 0, 0, 1) to 3x4 cameras."
    return ""


def _channels_hint(images: Tensor, batch: tuple[int, int]) -> str:
    """What to do with images whose channels come last, or that have an alpha channel."""
    if images.ndim == 5 and tuple(images.shape[:2]) == batch:
        if images.shape[-1] == 3:
            return " Channels come first: permute(0, 1, 4, 2, 3)."
        if images.shape[2] == 4:
            return " Composite the alpha channel over the background, and drop it."
    return ""


def _two_numbers(image_size: object) -> tuple[int, int]:
    """(H, W), checked."""
    try:
        height, width = (int(size) for size in image_size)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise TypeError(f"image_size must be (H, W), two whole numbers; got {image_size!r}.") from None
    return height, width


def _per_view(
    name: str, depth: float | Float[Tensor, "B V"], world_to_camera: Float[Tensor, "B V 4 4"]
) -> Float[Tensor, "B V"]:
    """A depth for every view, from one for all or one for each."""
    shape = world_to_camera.shape[:2]
    if not isinstance(depth, (Real, Tensor)):
        raise TypeError(f"{name} must be a number or a tensor [B, V] in world units, got {kind(depth)}.")
    value = torch.as_tensor(
        depth if isinstance(depth, Tensor) else float(depth), dtype=world_to_camera.dtype, device=world_to_camera.device
    )
    if value.ndim and value.shape != shape:
        raise ValueError(f"{name} must be a number or have shape {list(shape)}, got {list(value.shape)}.")
    return value.expand(shape)
