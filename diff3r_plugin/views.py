"""The cameras a scene is seen by, with or without the images they took."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Views:
    """V pinhole cameras for each of B scenes, and optionally their images.

    Args:
        images: ``[B, V, 3, H, W]`` in [0, 1], or None when the cameras are only to be rendered.
        world_to_camera: ``[B, V, 4, 4]``, OpenCV axes (x right, y down, z forward).
        intrinsics: ``[B, V, 3, 3]`` in pixels; the center of the first pixel is (0.5, 0.5); skew is ignored.
        near: Gaussians at depths <= near are not rendered; a number or ``[B, V]``, world units.
        far: Gaussians at depths >= far are not rendered; a number or ``[B, V]``, world units.
        image_size: (H, W); taken from ``images`` when they are given.
        background: Color behind all Gaussians, ``[3]`` tensor or three numbers.

    Raises:
        ValueError: if a shape does not fit the others, or there is neither ``images`` nor ``image_size``.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Views
        >>> K = torch.tensor([[50.0, 0, 16], [0, 50, 16], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> views = Views(None, torch.eye(4).expand(1, 2, 4, 4), K, image_size=(32, 32))
        >>> views.num_views, views.image_size
        (2, (32, 32))
    """

    images: Float[Tensor, "B V 3 H W"] | None
    world_to_camera: Float[Tensor, "B V 4 4"]
    intrinsics: Float[Tensor, "B V 3 3"]
    near: float | Float[Tensor, "B V"] = 0.01
    far: float | Float[Tensor, "B V"] = 1e10
    image_size: tuple[int, int] | None = None
    background: tuple[float, float, float] | Float[Tensor, "3"] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.world_to_camera.ndim != 4 or tuple(self.world_to_camera.shape[2:]) != (4, 4):
            raise ValueError(f"world_to_camera must have shape [B, V, 4, 4], got {list(self.world_to_camera.shape)}.")
        B, V = self.world_to_camera.shape[:2]
        if tuple(self.intrinsics.shape) != (B, V, 3, 3):
            raise ValueError(f"intrinsics must have shape {[B, V, 3, 3]}, got {list(self.intrinsics.shape)}.")
        if self.images is not None:
            if self.images.ndim != 5 or tuple(self.images.shape[:3]) != (B, V, 3):
                raise ValueError(f"images must have shape [{B}, {V}, 3, H, W], got {list(self.images.shape)}.")
            size = (self.images.shape[3], self.images.shape[4])
            if self.image_size is not None and tuple(self.image_size) != size:
                raise ValueError(f"image_size {tuple(self.image_size)} disagrees with images of size {size}.")
            object.__setattr__(self, "image_size", size)
        if self.image_size is None:
            raise ValueError("Give images, or image_size=(H, W) for cameras without images.")
        object.__setattr__(self, "image_size", tuple(int(s) for s in self.image_size))
        background = torch.as_tensor(
            self.background, dtype=self.world_to_camera.dtype, device=self.world_to_camera.device
        )
        if tuple(background.shape) != (3,):
            raise ValueError(f"background must be three numbers, got shape {list(background.shape)}.")
        object.__setattr__(self, "background", background)
        for name in ("near", "far"):
            value = torch.as_tensor(
                getattr(self, name), dtype=self.world_to_camera.dtype, device=self.world_to_camera.device
            )
            if value.ndim and tuple(value.shape) != (B, V):
                raise ValueError(f"{name} must be a number or have shape {[B, V]}, got {list(value.shape)}.")
            object.__setattr__(self, name, value.expand(B, V))

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

    def replace(self, **changes) -> Views:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def detach(self) -> Views:
        """The same numbers without an autograd graph."""
        return self.to()

    def to(self, *args, **kwargs) -> Views:
        """``torch.Tensor.to`` on every (detached) tensor."""
        moved = {
            name: None if (value := getattr(self, name)) is None else value.detach().to(*args, **kwargs)
            for name in ("images", "world_to_camera", "intrinsics", "near", "far", "background")
        }
        return replace(self, **moved)  # type: ignore[arg-type]
