"""Charts within the CPU kernels: applied where these read and write Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.kernels.loading.library_cpu import Systems, load
from diff3r_plugin.linearized.charted import chart_at, decode
from diff3r_plugin.render import GaussianGram
from diff3r_plugin.render.native_backend import NativeLinearization
from diff3r_plugin.views import Views


class NativeCharted:
    """Implements :class:`diff3r_plugin.linearized.charted.ChartedRendering` with the ``native`` backend.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where, ``[B, P]``, float32 or float64, on the CPU.
        views: Cameras at θ.

    Raises:
        As ``native_backend.linearize``.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views) -> None:
        loaded = load()
        assert loaded is not None, "the caller has resolved the backend"
        self._theta, self._empty = theta, loaded.empty
        self._kernels = loaded.by_dtype[theta.dtype]
        self._chart = chart_at(coordinates, theta)
        gaussians = decode(
            coordinates,
            loaded.empty,
            lambda given, out: self._kernels.chart_decode(given, torch.get_num_threads(), self._chart, out),
        )
        self._render = NativeLinearization(gaussians, views)
        self.scene, self.image = self._render.scene, self._render.image

    def jvp(self, tangent: Tensor, cameras: Tensor | None) -> Float[Tensor, "B V 3 H W"]:
        out = torch.empty(self.scene.image_shape, dtype=self.scene.dtype)
        self._run(self._kernels.chart_jvp, tangent, cameras, out)
        return out

    def vjp(
        self, cotangent: Tensor, weights: Tensor | None, center: Tensor | None, with_cameras: bool
    ) -> tuple[Tensor, Tensor | None]:
        out, cameras = self._room(), self._camera_cotangents(with_cameras)
        self._run(self._kernels.chart_vjp, cotangent, weights, center, out, cameras)
        return out, cameras

    def gauss_newton_product(
        self, tangent: Tensor, cameras: Tensor | None, pixel_weights: Tensor, diagonal: Tensor, out: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        out = self._room() if out is None else out
        cotangents = self._camera_cotangents(cameras is not None)
        self._run(self._kernels.chart_gauss_newton, tangent, pixel_weights, diagonal, out, cameras, cotangents)
        return out, cotangents

    def gram_diagonal(self, pixel_weights: Tensor) -> Float[Tensor, "B P"]:
        out = self._room()
        self._run(self._kernels.chart_gram_diagonal, pixel_weights, out)
        return out

    def gram(self, pixel_weights: Tensor) -> GaussianGram:
        return self._render.gram(pixel_weights)

    def weighted_distance(self, weights: Tensor, center: Tensor) -> Float[Tensor, " B"]:
        sums = torch.zeros((self._theta.shape[0], 2), dtype=torch.float64)
        pointers = [t.data_ptr() for t in (self._theta, center, weights, sums)]
        self._kernels.products(Systems(*self._theta.shape), torch.get_num_threads(), *pointers)
        return sums[:, 1].to(self._theta.dtype)

    def _room(self) -> Float[Tensor, "B P"]:
        return self._empty(tuple(self._theta.shape), self._theta.dtype)

    def _camera_cotangents(self, wanted: bool) -> Float[Tensor, "B V 4 4"] | None:
        scene = self.scene
        return torch.empty((scene.batch, scene.views, 4, 4), dtype=scene.dtype) if wanted else None

    def _run(self, kernel: Callable[..., Any], *tensors: Tensor | None) -> None:
        self.scene.check_unchanged()
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        self.scene.check(kernel(self._render.handle, torch.get_num_threads(), self._chart, *pointers))
