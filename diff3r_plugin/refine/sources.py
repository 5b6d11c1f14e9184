"""Where the views of a refinement come from: from memory, or from files as rounds need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.views import Views


class ViewSource(Protocol):
    """Some views of one scene, loaded when they are asked for."""

    @property
    def names(self) -> Sequence[str]:
        """One a view."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of all."""
        ...

    @property
    def world_to_camera(self) -> Float[Tensor, "F 4 4"]:
        """Of all views."""
        ...

    @property
    def focal(self) -> float:
        """The longest focal length, pixels."""
        ...

    def load(self, numbers: Sequence[int]) -> tuple[Views, Float[Tensor, "1 V H W"] | None]:
        """Some of the views with their images, and the weights of their pixels."""
        ...


class ViewsInMemory:
    """Implements :class:`ViewSource` with :class:`~diff3r_plugin.Views` of one scene.

    Args:
        views: With images.
        pixel_weights: ``[1, V, H, W]``, not negative; one by default.

    Raises:
        ValueError: for views of several scenes, or without images.
    """

    def __init__(self, views: Views, pixel_weights: Float[Tensor, "1 V H W"] | None = None) -> None:
        if views.batch_size != 1:
            raise ValueError(
                f"A refinement in rounds takes one scene, got views of {views.batch_size}; take each by itself."
            )
        self._views, self._images, self._weights = views, views.given_images, pixel_weights
        self.names = [str(number) for number in range(views.num_views)]
        self.image_size = views.image_size
        self.world_to_camera = views.world_to_camera[0]
        self.focal = float(views.intrinsics[0, :, 0, 0].max())

    def load(self, numbers: Sequence[int]) -> tuple[Views, Float[Tensor, "1 V H W"] | None]:
        chosen, views = list(numbers), self._views
        some = views.replace(
            world_to_camera=views.world_to_camera[:, chosen],
            intrinsics=views.intrinsics[:, chosen],
            images=self._images[:, chosen],
            near=views.near[:, chosen],
            far=views.far[:, chosen],
        )
        return some, None if self._weights is None else self._weights[:, chosen]


def camera_centers(world_to_camera: Float[Tensor, "F 4 4"]) -> Float[Tensor, "F 3"]:
    """Where cameras stand.

    Example:
        >>> import torch
        >>> from diff3r_plugin.refine.sources import camera_centers
        >>> pose = torch.eye(4)
        >>> pose[:3, 3] = torch.tensor([2.0, 1.0, 3.0])
        >>> camera_centers(pose[None])
        tensor([[-2., -1., -3.]])
    """
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    return -(rotation * translation[:, :, None]).sum(1)


def validation_views(count: int, wanted: int | None, many: bool) -> list[int]:
    """Which of ``count`` context views tell when to end: spread evenly; by default one in ten of at least ten.

    Example:
        >>> from diff3r_plugin.refine.sources import validation_views
        >>> validation_views(43, None, many=True), validation_views(6, None, many=True)
        ([5, 16, 26, 37], [])
    """
    number = wanted if wanted is not None else count // 10 if many else 0
    return [int((k + 0.5) * count / number) for k in range(number)]
