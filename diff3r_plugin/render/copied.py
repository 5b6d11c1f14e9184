"""A renderer of the CPU for tensors elsewhere: everything is copied there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render.linearization import GaussianGram, Linearization
from diff3r_plugin.views import Views

Moved = TypeVar("Moved", Tensor, Gaussians)


class CopiedLinearization:
    """Implements :class:`diff3r_plugin.render.linearization.Linearization` on the device of the scene.

    Args:
        gaussians: B scenes, on any device.
        views: V cameras for each, there too.
        linearize: Makes a linearization on the CPU.

    Raises:
        As ``linearize``.
    """

    def __init__(
        self, gaussians: Gaussians, views: Views, linearize: Callable[[Gaussians, Views], Linearization]
    ) -> None:
        self._device = gaussians.device
        self._lin = linearize(gaussians.detach().to("cpu"), views.to("cpu"))
        self.image: Float[Tensor, "B V 3 H W"] = self._back(self._lin.image)

    def jvp(
        self, tangent: Gaussians, world_to_camera: Float[Tensor, "B V 4 4"] | None = None
    ) -> Float[Tensor, "B V 3 H W"]:
        """J v; see :meth:`Linearization.jvp`."""
        cameras = None if world_to_camera is None else _here(world_to_camera)
        return self._back(self._lin.jvp(_here(tangent), cameras))

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Gaussians:
        """Jᵀ u; see :meth:`Linearization.vjp`."""
        return self._back(self._lin.vjp(_here(cotangent)))

    def vjp_cameras(self, cotangent: Float[Tensor, "B V 3 H W"]) -> tuple[Gaussians, Float[Tensor, "B V 4 4"]]:
        """Jᵀ u and the cotangent of the cameras; see :meth:`Linearization.vjp_cameras`."""
        gradient, cameras = self._lin.vjp_cameras(_here(cotangent))
        return self._back(gradient), self._back(cameras)

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Float[Tensor, "B V H W"]) -> Gaussians:
        """JᵀWJ v; see :meth:`Linearization.gauss_newton_product`."""
        return self._back(self._lin.gauss_newton_product(_here(tangent), _here(pixel_weights)))

    def gram(self, pixel_weights: Float[Tensor, "B V H W"]) -> GaussianGram:
        """Exact per-Gaussian blocks of JᵀWJ; see :meth:`Linearization.gram`."""
        gram = self._lin.gram(_here(pixel_weights))
        return GaussianGram(self._back(gram.core), self._back(gram.sh_rest))

    def _back(self, value: Moved) -> Moved:
        return value.to(self._device)


def _here(value: Moved) -> Moved:
    return value.detach().to(torch.device("cpu"))
