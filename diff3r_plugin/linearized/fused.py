"""The linearization in θ within the CPU kernels: the chart is applied where Gaussians are read and written."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates, LocalCoordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading.library_cpu import Library, Systems, load
from diff3r_plugin.kernels.loading.structures import CHART_GROUPS, INPUTS, Chart, Inputs, Vector
from diff3r_plugin.render.native_backend import NativeLinearization
from diff3r_plugin.views import Views


class FusedLinearization:
    """Implements :class:`diff3r_plugin.linearized.protocol.ThetaLinearization` with the ``native`` backend.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where, ``[B, P]``, float32 or float64, on the CPU.
        views: Cameras at θ = 0.

    Raises:
        As ``native_backend.linearize``.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views) -> None:
        loaded = load()
        assert loaded is not None, "the caller has resolved the backend"
        theta = theta.detach().contiguous()
        self._coordinates, self._theta, self._empty = coordinates, theta, loaded.empty
        self._kernels = loaded.by_dtype[theta.dtype]
        self._chart = Chart(
            coordinates.num_unknowns,
            *(coordinates.first_unknown(group) for group in CHART_GROUPS),
            coordinates.covariance_kind,
            theta.data_ptr(),
            coordinates.anchors.data_ptr(),
        )
        self._poses = coordinates.poses_at(theta)
        self._last = slice(coordinates.first_unknown("poses"), None)  # the poses', if they move, come last in θ
        scene = _decode(coordinates, self._chart, self._kernels.chart_decode, loaded)
        self._render = NativeLinearization(scene, coordinates.decode_cameras(theta, views))
        self.image: Float[Tensor, "B V 3 H W"] = self._render.image

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        scene, tangent = self._render.scene, self._like_theta(tangent, "tangent")
        cameras = self._moved_cameras(tangent)
        out = torch.empty(scene.image_shape, dtype=scene.dtype)
        self._run(self._kernels.chart_jvp, tangent, cameras, out)
        return out

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        return self._vjp(cotangent, None, None)

    def gradient(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        weights, center = self._like_theta(weights, "weights"), self._like_theta(center, "center")
        gradient = self._vjp(cotangent, weights, center)
        if self._poses is not None:
            gradient[:, self._last] += weights[:, self._last] * (self._theta - center)[:, self._last]
        return gradient

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
        weights, center = self._like_theta(weights, "weights"), self._like_theta(center, "center")
        sums = torch.zeros((self._theta.shape[0], 2), dtype=torch.float64)
        pointers = [t.data_ptr() for t in (self._theta, center, weights, sums)]
        self._kernels.products(Systems(*self._theta.shape), torch.get_num_threads(), *pointers)
        return sums[:, 1].to(self._theta.dtype)

    def _vjp(self, cotangent: Tensor, weights: Tensor | None, center: Tensor | None) -> Float[Tensor, "B P"]:
        scene = self._render.scene
        cotangent = scene.image_like(cotangent, scene.image_shape, "the cotangent")
        out, cameras = self._empty(tuple(self._theta.shape), self._theta.dtype), self._camera_cotangents()
        self._run(self._kernels.chart_vjp, cotangent, weights, center, out, cameras)
        return self._with_poses(out, cameras)

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        tangent, diagonal = self._like_theta(tangent, "tangent"), self._like_theta(diagonal, "diagonal")
        weights = self._render.scene.pixel_weights(pixel_weights)
        if out is None:
            out = self._empty(tuple(self._theta.shape), self._theta.dtype)
        cameras = self._camera_cotangents()
        moved = self._moved_cameras(tangent)
        self._run(self._kernels.chart_gauss_newton, tangent, weights, diagonal, out, moved, cameras)
        product = self._with_poses(out, cameras)
        if self._poses is not None:
            product[:, self._last] += diagonal[:, self._last] * tangent[:, self._last]
        return product

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        out = self._empty(tuple(self._theta.shape), self._theta.dtype)
        self._run(self._kernels.chart_gram_diagonal, self._render.scene.pixel_weights(pixel_weights), out)
        if self._poses is not None:
            out[:, self._last] = 0
        return out

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        return LocalCoordinates(self._coordinates, self._theta).gram_blocks(self._render.gram(pixel_weights))

    def _run(self, kernel, *tensors: Tensor | None) -> None:
        scene = self._render.scene
        scene.check_unchanged()
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        scene.check(kernel(self._render.handle, torch.get_num_threads(), self._chart, *pointers))

    def _like_theta(self, value: Tensor, name: str) -> Tensor:
        return self._render.scene.image_like(value, tuple(self._theta.shape), name)

    def _moved_cameras(self, tangent: Tensor) -> Float[Tensor, "B V 4 4"] | None:
        if self._poses is None:
            return None
        return self._poses.jvp(self._coordinates.split(tangent)["poses"]).contiguous()

    def _camera_cotangents(self) -> Float[Tensor, "B V 4 4"] | None:
        scene = self._render.scene
        return None if self._poses is None else torch.empty((scene.batch, scene.views, 4, 4), dtype=scene.dtype)

    def _with_poses(self, out: Tensor, cameras: Tensor | None) -> Float[Tensor, "B P"]:
        """The poses stand last in θ; their gradient comes from that of the cameras."""
        if self._poses is not None:
            assert cameras is not None
            out[:, self._last] = self._poses.vjp(cameras).flatten(1)
        return out


def _decode(coordinates: Coordinates, chart: Chart, kernel, loaded: Library) -> Gaussians:
    """The scene at the chart's θ; what does not move is the reference's own tensor."""
    reference = coordinates.plain_reference
    B, N, K = reference.batch_size, reference.num_gaussians, reference.harmonics.shape[-1]

    def room(like: Tensor, *groups: str) -> Tensor:
        if not any(group in coordinates.shapes for group in groups):
            return like
        return loaded.empty(tuple(like.shape), like.dtype)

    scene = Gaussians(
        loaded.empty((B, N, 3), reference.dtype),
        room(reference.covariance_matrices, "covariance"),
        loaded.empty((B, N), reference.dtype),
        room(reference.harmonics, "sh_dc", "sh_rest"),
    )
    own = reference.tensors()
    out = [None if a is b else a.data_ptr() for a, b in zip(scene.tensors(), own, strict=True)]
    # Decoding reads no camera.
    given = dict(zip(INPUTS[:4], own, strict=True))
    inputs = Inputs(B, 0, N, K, 0, 0, *(given[name].data_ptr() if name in given else None for name in INPUTS))
    kernel(inputs, torch.get_num_threads(), chart, Vector(*out, None))
    return scene
