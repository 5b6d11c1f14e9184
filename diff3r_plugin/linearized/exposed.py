"""The linearization in θ where each view has an exposure of its own: image = gain · rendering + bias."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.coordinates.exposure import gain_slope
from diff3r_plugin.linearized.protocol import ThetaLinearization


class ExposedLinearization:
    """Implements :class:`diff3r_plugin.linearized.protocol.ThetaLinearization` on top of that of the rendering.

    Exposures stand last in θ; what is before them belongs to the rendering. One Gauss–Newton product is a JVP and a
    VJP: the kernels' fused product has one weight a pixel, gains differ by channel.

    Args:
        coordinates: The map from θ to scenes and exposures.
        theta: Where, ``[B, P]``.
        rendering: The linearization without exposures, at the unknowns that stand before them.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"], rendering: ThetaLinearization) -> None:
        self._theta, self._render = theta, rendering
        self._first = coordinates.first_unknown("exposure")
        self._shape = coordinates.shapes["exposure"]
        own = theta[:, self._first :].unflatten(1, self._shape)
        self._gain = coordinates.decode_exposure(theta).gain[..., None, None]
        self._dimmed: Float[Tensor, "B V 3 H W"] = gain_slope(own)[..., None, None] * rendering.image
        self.image: Float[Tensor, "B V 3 H W"] = coordinates.decode_exposure(theta).apply(rendering.image)

    def _split(self, vector: Float[Tensor, "B P"]) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B E"]]:
        return vector[:, : self._first].contiguous(), vector[:, self._first :]

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        scene, own = self._split(tangent)
        log_gain, bias = own.unflatten(1, self._shape)[..., None, None].split(3, 2)
        return self._gain * self._render.jvp(scene) + self._dimmed * log_gain + bias

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        return torch.cat([self._render.vjp((self._gain * cotangent).contiguous()), self._own_vjp(cotangent)], 1)

    def _own_vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B E"]:
        sums = [(self._dimmed * cotangent).sum((-2, -1)), cotangent.sum((-2, -1))]
        return torch.cat(sums, -1).flatten(1)

    def gradient(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        (scene_weights, own_weights), (scene_center, own_center) = self._split(weights), self._split(center)
        scene = self._render.gradient((self._gain * cotangent).contiguous(), scene_weights, scene_center)
        own = self._own_vjp(cotangent) + own_weights * (self._theta[:, self._first :] - own_center)
        return torch.cat([scene, own], 1)

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        (scene_weights, own_weights), (scene_center, own_center) = self._split(weights), self._split(center)
        own = (own_weights * (self._theta[:, self._first :] - own_center) ** 2).sum(-1)
        return self._render.weighted_distance(scene_weights, scene_center) + own

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        return torch.addcmul(self.vjp(pixel_weights[:, :, None] * self.jvp(tangent)), diagonal, tangent)

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        scene = self._render.gram_diagonal(self._dimmed_weights(pixel_weights))
        own = [
            (pixel_weights[:, :, None] * self._dimmed**2).sum((-2, -1)),
            pixel_weights.sum((-2, -1))[..., None].expand(*self._dimmed.shape[:3]),
        ]
        return torch.cat([scene, torch.cat(own, -1).flatten(1)], 1)

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        return self._render.gram_blocks(self._dimmed_weights(pixel_weights))

    def _dimmed_weights(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V H W"]:
        """W times the mean over channels of gain²: the Gram has one weight a pixel, and shapes the path only."""
        return (pixel_weights * (self._gain**2).mean(2)).contiguous()
