"""Scores of a scene on images, one view at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import PosedImages
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.refine.inputs import Inputs, loaded, pixel_weights
from diff3r_plugin.refine.settings import RefineSettings
from diff3r_plugin.render import render

METRICS = ("psnr", "ssim")


def score_views(
    scene: Gaussians, images: PosedImages, inputs: Inputs, settings: RefineSettings
) -> list[dict[str, float]]:
    """``psnr`` (dB) and ``ssim`` of each image."""
    scores = []
    for number in range(len(images)):
        views = loaded(images, [number], inputs, settings)
        with torch.no_grad():
            rendered = render(
                scene.to(views.device), views.replace(images=None, image_size=inputs.size), settings.tto.backend
            )
        assert views.images is not None
        truth, counted = masked(views.images, rendered, pixel_weights(images, [number], inputs, settings))
        scores.append(
            {
                "psnr": float(psnr(truth, rendered).mean()) + 10 * math.log10(counted),
                "ssim": float(ssim(truth, rendered).mean()),
            }
        )
    return scores


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
