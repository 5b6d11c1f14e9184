"""Maps of a refined call, one number a pixel, and how they become images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.groups import GROUPS

LEAST_FACTOR = 4.0
"""Least ratio of the ends of a logarithmic scale: a map whose values hardly differ has hardly any contrast."""

WHITE_ERROR = 0.3
"""Absolute error that is drawn white."""


@dataclass(frozen=True, eq=False)
class WeightMaps:
    """Maps of one group's proximal weights with the scale that they are drawn on.

    Args:
        values: ``[V, H, W]``, positive.
        black: Weight that is drawn black.
        white: Weight that is drawn white; colors between are logarithmic.
    """

    values: Float[Tensor, "V H W"]
    black: float
    white: float

    @classmethod
    def of(cls, values: Float[Tensor, "V H W"]) -> WeightMaps:
        """On a scale from the least to the largest value, or wider: what hardly differs must look it."""
        return cls(values, *wide_enough(float(values.min()), float(values.max())))

    def ranges(self) -> dict[str, float]:
        """For whoever looks at the images: least and largest value, and both ends of the scale."""
        ends = {"least": float(self.values.min()), "largest": float(self.values.max())}
        return {**ends, "black": self.black, "white": self.white}

    def images(self) -> Float[Tensor, "V 3 H W"]:
        """The maps in color."""
        return heat(self.values.log(), math.log(self.black), math.log(self.white))


def weight_maps(
    weights: Mapping[str, Tensor | float], index: int, views: int, height: int, width: int
) -> dict[str, Float[Tensor, "V H W"]]:
    """Geometric mean of the proximal weights of each pixel's Gaussians, for the groups whose weights differ by pixel.

    Args:
        weights: Per group a number for all, or ``[B, N, ...]``.
        index: Scene of the batch.
        views: Context views.
        height: Of their images.
        width: Of their images.
    """
    maps = {}
    for group, weight in weights.items():
        if GROUPS[group].of_views or not isinstance(weight, Tensor) or weight.ndim != 3:
            continue
        per_gaussian = weight.detach()[index].float().log().mean(-1)
        if per_gaussian.numel() % (views * height * width) == 0:
            maps[group] = per_gaussian.reshape(views, height, width, -1).mean(-1).exp()
    return maps


def wide_enough(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic scale for values from low to high, moved apart where they are closer than LEAST_FACTOR.

    Example:
        >>> from diff3r_plugin.maps import wide_enough
        >>> wide_enough(1.0, 100.0)
        (1.0, 100.0)
        >>> [round(end, 4) for end in wide_enough(0.01, 0.01)]
        [0.005, 0.02]
    """
    reach = math.sqrt(max(LEAST_FACTOR / (high / low), 1.0))
    return low / reach, high * reach


def error_images(
    images: Float[Tensor, "V 3 H W"], truth: Float[Tensor, "V 3 H W"] | Float[Tensor, "3 H W"]
) -> Float[Tensor, "V 3 H W"]:
    """Mean absolute error over the color channels, from black for 0 to white for :data:`WHITE_ERROR`.

    Each image has its own truth, or all of them the same.
    """
    return heat((images - truth).abs().mean(1), 0.0, WHITE_ERROR)


def heat(values: Float[Tensor, "*batch H W"], low: float, high: float) -> Float[Tensor, "*batch 3 H W"]:
    """A map as an image: black, red, yellow, white from low to high."""
    t = ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
    return torch.stack([(3 * t).clamp(0, 1), (3 * t - 1).clamp(0, 1), (3 * t - 2).clamp(0, 1)], -3)
