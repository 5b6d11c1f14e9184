"""The linearization in θ where a group of each view acts on what is rendered, as exposures do."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups import ImageChart
from diff3r_plugin.linearized.protocol import ThetaLinearization


class ImagedLinearization:
    """Implements :class:`diff3r_plugin.linearized.protocol.ThetaLinearization` on top of that of the rendering.

    The group stands last in θ; what is before it belongs to the rendering. One Gauss–Newton product is a JVP and a
    VJP: the kernels' fused product has one weight a pixel, slopes may differ by channel.

    Args:
        coordinates: The map from θ to scenes and views.
        group: Name of the group, the last in θ.
        chart: Its chart.
        theta: Where, ``[B, P]``.
        rendering: The linearization without the group, at the unknowns that stand before it.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        group: str,
        chart: ImageChart,
        theta: Float[Tensor, "B P"],
        rendering: ThetaLinearization,
    ) -> None:
        self._theta, self._render = theta, rendering
        self._first = coordinates.first_unknown(group)
        self._shape = coordinates.shapes[group]
        self._images = chart.at(theta[:, self._first :].unflatten(1, self._shape), rendering.image)
        self.image: Float[Tensor, "B V 3 H W"] = self._images.image

    def _split(self, vector: Float[Tensor, "B P"]) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B E"]]:
        return vector[:, : self._first].contiguous(), vector[:, self._first :]

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        scene, own = self._split(tangent)
        return self._images.slope * self._render.jvp(scene) + self._images.jvp(own.unflatten(1, self._shape))

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        scene = self._render.vjp((self._images.slope * cotangent).contiguous())
        return torch.cat([scene, self._images.vjp(cotangent).flatten(1)], 1)

    def gradient(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        (scene_weights, own_weights), (scene_center, own_center) = self._split(weights), self._split(center)
        scene = self._render.gradient((self._images.slope * cotangent).contiguous(), scene_weights, scene_center)
        own = self._images.vjp(cotangent).flatten(1) + own_weights * (self._theta[:, self._first :] - own_center)
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
        scene = self._render.gram_diagonal(self._seen_weights(pixel_weights))
        return torch.cat([scene, self._images.gram_diagonal(pixel_weights).flatten(1)], 1)

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        return self._render.gram_blocks(self._seen_weights(pixel_weights))

    def _seen_weights(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V H W"]:
        """W times the mean over channels of slope²: the Gram has one weight a pixel, and shapes the path only."""
        return (pixel_weights * (self._images.slope**2).mean(2)).contiguous()
