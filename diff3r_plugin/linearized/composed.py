"""The obvious linearization in θ: a renderer's products between the derivative of the coordinates and its transpose."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates, LocalCoordinates
from diff3r_plugin.render import GaussianGram, linearize
from diff3r_plugin.views import Views


class ComposedLinearization:
    """Works with every backend; implements :class:`diff3r_plugin.linearized.protocol.ThetaLinearization`.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where, ``[B, P]``.
        views: Cameras at θ = 0.
        backend: Render backend.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views, backend: str) -> None:
        self._theta, self._local = theta, LocalCoordinates(coordinates, theta)
        self._render = linearize(self._local.gaussians, coordinates.decode_cameras(theta, views), backend)
        self.image: Float[Tensor, "B V 3 H W"] = self._render.image
        self._gram: tuple[Tensor, GaussianGram] | None = None

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        cameras = self._local.jvp_cameras(tangent) if self._local.moves_cameras else None
        return self._render.jvp(self._local.jvp(tangent), cameras)

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        if self._local.moves_cameras:
            return self._local.vjp(*self._render.vjp_cameras(cotangent))
        return self._local.vjp(self._render.vjp(cotangent))

    def gradient(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        return self.vjp(cotangent) + weights * (self._theta - center)

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        return (weights * (self._theta - center) ** 2).sum(-1)

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        if self._local.moves_cameras:
            product = self.vjp(pixel_weights[:, :, None] * self.jvp(tangent))
        else:
            product = self._local.vjp(self._render.gauss_newton_product(self._local.jvp(tangent), pixel_weights))
        return torch.addcmul(product, diagonal, tangent)

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        return self._local.gram_diagonal(self._render_gram(pixel_weights))

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        return self._local.gram_blocks(self._render_gram(pixel_weights))

    def _render_gram(self, pixel_weights: Tensor) -> GaussianGram:
        if self._gram is None or self._gram[0] is not pixel_weights:
            self._gram = pixel_weights, self._render.gram(pixel_weights)
        return self._gram[1]
