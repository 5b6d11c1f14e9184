"""The chart of per-view exposures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_LOG_GAIN = 3.0
"""Log-gains change by at most this: a factor of twenty, past any camera's automatic exposure."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What each view's camera does to colors: image = gain · rendering + bias.

    Args:
        gain: ``[B, V, 3]``, positive; 1 is the identity.
        bias: ``[B, V, 3]``, in units of the image's range [0, 1]; 0 is the identity.

    Example:
        >>> import torch
        >>> from diff3r_plugin.groups.exposure import Exposure
        >>> exposure = Exposure(torch.full((1, 2, 3), 2.0), torch.full((1, 2, 3), 0.1))
        >>> exposure.apply(torch.full((1, 2, 3, 4, 4), 0.25)).unique()
        tensor([0.6000])
    """

    gain: Float[Tensor, "B V 3"]
    bias: Float[Tensor, "B V 3"]

    def apply(self, rendering: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V 3 H W"]:
        """The images that these cameras would take of what is rendered."""
        return self.gain[..., None, None] * rendering + self.bias[..., None, None]


def decode_exposure(theta: Float[Tensor, "B V 6"]) -> Exposure:
    """θ = (three log-gains, three biases), by channel; θ = 0 is the identity. Differentiable."""
    return Exposure(theta[..., :3].clamp(-LARGEST_LOG_GAIN, LARGEST_LOG_GAIN).exp(), theta[..., 3:])


class ExposureChart:
    """The chart of group ``exposure``; implements :class:`~diff3r_plugin.groups.record.ImageChart`."""

    def apply(self, theta: Float[Tensor, "B V 6"], rendering: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V 3 H W"]:
        return decode_exposure(theta).apply(rendering)

    def at(self, theta: Float[Tensor, "B V 6"], rendering: Float[Tensor, "B V 3 H W"]) -> ExposedImages:
        return ExposedImages(theta, rendering)


class ExposedImages:
    """Images at one exposure; implements :class:`~diff3r_plugin.groups.record.LocalImages`."""

    def __init__(self, theta: Float[Tensor, "B V 6"], rendering: Float[Tensor, "B V 3 H W"]) -> None:
        exposure = decode_exposure(theta)
        self.image = exposure.apply(rendering)
        self.slope: Float[Tensor, "B V 3 1 1"] = exposure.gain[..., None, None]
        self._by_log_gain = gain_slope(theta)[..., None, None] * rendering

    def jvp(self, own: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 3 H W"]:
        log_gain, bias = own[..., None, None].split(3, 2)
        return self._by_log_gain * log_gain + bias

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V 6"]:
        return torch.cat([(self._by_log_gain * cotangent).sum((-2, -1)), cotangent.sum((-2, -1))], -1)

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V 6"]:
        own = (pixel_weights[:, :, None] * self._by_log_gain**2).sum((-2, -1))
        return torch.cat([own, pixel_weights.sum((-2, -1))[..., None].expand_as(own)], -1)


def gain_slope(theta: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 3"]:
    """d gain / d log-gain."""
    log_gain = theta[..., :3]
    return torch.where(log_gain.abs() <= LARGEST_LOG_GAIN, log_gain.exp(), 0)
