"""The linearization in θ within a backend's kernels, which apply the Gaussians' charts as they read and write these."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates, LocalCoordinates
from diff3r_plugin.linearized.charted import Charted
from diff3r_plugin.views import Views


class FusedLinearization:
    """Implements :class:`diff3r_plugin.linearized.protocol.ThetaLinearization` with a compiled backend.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where, ``[B, P]``, float32 or float64, on the backend's device.
        views: Cameras at θ = 0.
        charted: The backend's kernels.

    Raises:
        As the backend's ``linearize``.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views, charted: Charted) -> None:
        self._coordinates, self._theta = coordinates, theta.detach().contiguous()
        self._poses = coordinates.poses_at(self._theta)
        self._last = slice(coordinates.first_unknown("poses"), None)  # the poses', if they move, come last in θ
        at = views if self._poses is None else views.replace(world_to_camera=self._poses.camera)
        self._render = charted(coordinates, self._theta, at)
        self.image: Float[Tensor, "B V 3 H W"] = self._render.image

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        tangent = self._like_theta(tangent, "tangent")
        return self._render.jvp(tangent, self._moved_cameras(tangent))

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

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        weights, center = self._like_theta(weights, "weights"), self._like_theta(center, "center")
        return self._render.weighted_distance(weights, center)

    def _vjp(self, cotangent: Tensor, weights: Tensor | None, center: Tensor | None) -> Float[Tensor, "B P"]:
        scene = self._render.scene
        cotangent = scene.image_like(cotangent, scene.image_shape, "the cotangent")
        return self._with_poses(*self._render.vjp(cotangent, weights, center, self._poses is not None))

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        tangent, diagonal = self._like_theta(tangent, "tangent"), self._like_theta(diagonal, "diagonal")
        weights, moved = self._render.scene.pixel_weights(pixel_weights), self._moved_cameras(tangent)
        product = self._with_poses(*self._render.gauss_newton_product(tangent, moved, weights, diagonal, out))
        if self._poses is not None:
            product[:, self._last] += diagonal[:, self._last] * tangent[:, self._last]
        return product

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        scene = self._render.scene
        weights = scene.pixel_weights(pixel_weights)
        if scene.antialiased:
            return LocalCoordinates(self._coordinates, self._theta).gram_diagonal(self._render.gram(weights))
        out = self._render.gram_diagonal(weights)
        if self._poses is not None:
            out[:, self._last] = 0
        return out

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        return LocalCoordinates(self._coordinates, self._theta).gram_blocks(self._render.gram(pixel_weights))

    def _like_theta(self, value: Tensor, name: str) -> Tensor:
        return self._render.scene.image_like(value, tuple(self._theta.shape), name)

    def _moved_cameras(self, tangent: Tensor) -> Float[Tensor, "B V 4 4"] | None:
        if self._poses is None:
            return None
        return self._poses.jvp(self._coordinates.split(tangent)["poses"]).contiguous()

    def _with_poses(self, out: Tensor, cameras: Tensor | None) -> Float[Tensor, "B P"]:
        """The poses stand last in θ; their gradient comes from that of the cameras."""
        if self._poses is not None:
            assert cameras is not None
            out[:, self._last] = self._poses.vjp(cameras).flatten(1)
        return out
