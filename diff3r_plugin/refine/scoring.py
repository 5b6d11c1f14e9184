"""What a scene shows beside an image of it, and the scores of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.views import Views

METRICS = ("psnr", "ssim")


@dataclass(frozen=True, eq=False)
class RenderedView:
    """A scene rendered where an image was taken.

    Args:
        view: With that image; where it was found to stand.
        exposure: What it was found to be exposed by, see :class:`~diff3r_plugin.refine.cameras.Cameras`.
        rendering: Of the scene, so exposed.
        weights: How much each pixel counts, by masks; None where all do.
    """

    view: Views
    exposure: Float[Tensor, "1 1 6"]
    rendering: Float[Tensor, "1 1 3 H W"]
    weights: Float[Tensor, "1 1 H W"] | None

    def psnr(self) -> float:
        """Of the pixels that count, dB."""
        truth, counted = masked(self.view.given_images, self.rendering, self.weights)
        return float(psnr(truth, self.rendering).mean()) + 10 * math.log10(counted)

    def scores(self) -> dict[str, float]:
        """``psnr`` (dB) and ``ssim``."""
        truth, _ = masked(self.view.given_images, self.rendering, self.weights)
        return {"psnr": self.psnr(), "ssim": float(ssim(truth, self.rendering).mean())}


def masked(
    truth: Float[Tensor, "*batch 3 H W"],
    rendered: Float[Tensor, "*batch 3 H W"],
    weights: Float[Tensor, "*batch H W"] | None,
) -> tuple[Float[Tensor, "*batch 3 H W"], float]:
    """The image with the rendering where masks say that pixels do not count, and the share of those that do.

    Errors then are zero where nothing is known, and a mean over pixels is one over the counted ones times their share.
    """
    if weights is None or not weights.any():
        return truth, 1.0
    kept = weights[..., None, :, :]
    return kept * truth + (1 - kept) * rendered, float(weights.square().mean())


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """The mean of each over the images; None without any."""
    return {name: fmean(score[name] for score in scores) for name in METRICS} if scores else None
