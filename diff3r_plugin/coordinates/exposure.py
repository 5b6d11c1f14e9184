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
        >>> from diff3r_plugin.coordinates.exposure import Exposure
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


def gain_slope(theta: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 3"]:
    """d gain / d log-gain."""
    log_gain = theta[..., :3]
    return torch.where(log_gain.abs() <= LARGEST_LOG_GAIN, log_gain.exp(), 0)
