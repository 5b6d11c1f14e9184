"""Charts within the GPU kernels: applied where these read and write Gaussians."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.kernels.loading.kernel_table import Systems
from diff3r_plugin.kernels.loading.library_cuda import MOMENTS, Queue
from diff3r_plugin.kernels.loading.structures import Inputs, Vector
from diff3r_plugin.linearized.charted import chart_at, decode
from diff3r_plugin.render import GaussianGram
from diff3r_plugin.render.gsplat_backend import GsplatLinearization, rasterizer_for
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer
from diff3r_plugin.views import Views

MEAN_MOVE, DIAGONAL_SUMS = 27, 10
"""As in ``kernels/math/gram_diagonal.h``."""


def linearize(coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views) -> GsplatCharted:
    """On a GPU; arguments and errors as for :class:`GsplatCharted`."""
    return GsplatCharted(coordinates, theta, views, rasterizer_for(theta.device))


class GsplatCharted:
    """Implements :class:`diff3r_plugin.linearized.charted.ChartedRendering` with the ``gsplat`` backend.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where, ``[B, P]``, in the rasterizer's dtype and on its device.
        views: Cameras at θ.
        rasterizer: gsplat and our kernels for the device.

    Raises:
        As ``gsplat_backend.linearize``.
    """

    def __init__(
        self, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views, rasterizer: Rasterizer
    ) -> None:
        rasterizer.require(theta.dtype)
        self._theta, self._kernels = theta, rasterizer.kernels
        self._stream = rasterizer.stream
        self._chart = chart_at(coordinates, theta)
        gaussians = decode(
            coordinates, lambda shape, dtype: torch.empty(shape, dtype=dtype, device=theta.device), self._decode
        )
        self._render = GsplatLinearization(gaussians, views, rasterizer)
        self.scene, self.image = self._render.scene, self._render.image

    def jvp(self, tangent: Tensor, cameras: Tensor | None) -> Float[Tensor, "B V 3 H W"]:
        with self.scene.enough_memory():
            moved = self._render.room_for_splats()
            self._push(tangent, cameras, moved, None)
            return self._render.image_tangent(moved)

    def vjp(
        self, cotangent: Tensor, weights: Tensor | None, center: Tensor | None, with_cameras: bool
    ) -> tuple[Tensor, Tensor | None]:
        with self.scene.enough_memory():
            splats, arriving = self._render.splat_cotangents(cotangent)
            proximal = weights, None if weights is None else self._theta, center
            sums = self._render.camera_sums(with_cameras)
            out = self._pull(splats, arriving, proximal, torch.empty_like(self._theta), sums)
            return out, self._render.camera_matrices(sums)

    def gauss_newton_product(
        self, tangent: Tensor, cameras: Tensor | None, pixel_weights: Tensor, diagonal: Tensor, out: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        with self.scene.enough_memory():
            moved, moments = self._render.rooms_of_products
            self._push(tangent, cameras, moved, moments)
            self._render.add_moments(moved, pixel_weights, moments)
            out = torch.empty_like(self._theta) if out is None else out
            sums = self._render.camera_sums(cameras is not None)
            self._pull(moments, MOMENTS, (diagonal, tangent, None), out, sums)
            return out, self._render.camera_matrices(sums)

    def gram_diagonal(self, pixel_weights: Tensor) -> Float[Tensor, "B P"]:
        scene = self.scene
        scene.check_unchanged()
        with scene.enough_memory():
            moves = scene.empty((scene.images, scene.gaussians, MEAN_MOVE))
            sums = scene.zeros((scene.images, scene.gaussians, DIAGONAL_SUMS))
            out = torch.empty_like(self._theta)
            scene.run("mean_moves", moves.data_ptr())
            scene.run("rasterize_gram_diagonal", pixel_weights.data_ptr(), moves.data_ptr(), sums.data_ptr())
            scene.run("chart_gram_diagonal", self._chart, sums.data_ptr(), out.data_ptr())
            return out

    def gram(self, pixel_weights: Tensor) -> GaussianGram:
        return self._render.gram(pixel_weights)

    def weighted_distance(self, weights: Tensor, center: Tensor) -> Float[Tensor, " B"]:
        sums = torch.zeros((self._theta.shape[0], 2), dtype=torch.float64, device=self._theta.device)
        pointers = [t.data_ptr() for t in (self._theta, center, weights, sums)]
        self._kernels.launch("products", self._queue(), Systems(*self._theta.shape), *pointers)
        return sums[:, 1].to(self._theta.dtype)

    def _queue(self) -> Queue:
        """PyTorch's current stream, and the device."""
        device = self._theta.device
        return Queue(self._stream(device), device.index or 0)

    def _decode(self, reference: Inputs, out: Vector) -> None:
        self._kernels.launch("chart_decode", self._queue(), reference, self._chart, out)
        if out.harmonics:
            self._kernels.launch("chart_decode_harmonics", self._queue(), reference, self._chart, out.harmonics)

    def _push(self, tangent: Tensor, cameras: Tensor | None, moved: Tensor, moments: Tensor | None) -> None:
        scene = self.scene
        scene.check_unchanged()
        given, zeroed = (None if t is None else t.data_ptr() for t in (cameras, moments))
        scene.run("chart_splat_jvp", self._chart, tangent.data_ptr(), given, moved.data_ptr(), zeroed)

    def _pull(self, splats: Tensor, arriving: int, proximal: tuple, out: Tensor, sums: Tensor | None) -> Tensor:
        pointers = [None if t is None else t.data_ptr() for t in (*proximal, out, sums)]
        self.scene.run("chart_splat_vjp", splats.data_ptr(), arriving, self._chart, *pointers)
        return out
