"""Scores of a scene on images, one view at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import PosedImages
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.refine.cameras import Cameras, fitted, shown, view_groups
from diff3r_plugin.refine.inputs import Inputs, loaded, pixel_weights
from diff3r_plugin.refine.settings import RefineSettings
from diff3r_plugin.views import Views

METRICS = ("psnr", "ssim")


def score_views(
    scene: Gaussians,
    images: PosedImages,
    inputs: Inputs,
    settings: RefineSettings,
    cameras: Cameras | None = None,
) -> list[dict[str, float]]:
    """``psnr`` (dB) and ``ssim`` of each image.

    Where poses or exposures move, those of each view are fitted to the scene before: twelve numbers of an image,
    without which a scene in a slightly other place would be called a worse one.

    Args:
        scene: One scene.
        images: What it is compared with.
        inputs: What was read.
        settings: What was asked for.
        cameras: Where the fit begins; None for the poses as they were given.
    """
    scores = []
    for number in range(len(images)):
        views, rendered = seen_by(scene, images, number, inputs, settings, cameras)
        truth, counted = masked(views.given_images, rendered, pixel_weights(images, [number], inputs, settings))
        scores.append(
            {
                "psnr": float(psnr(truth, rendered).mean()) + 10 * math.log10(counted),
                "ssim": float(ssim(truth, rendered).mean()),
            }
        )
    return scores


def seen_by(
    scene: Gaussians,
    images: PosedImages,
    number: int,
    inputs: Inputs,
    settings: RefineSettings,
    cameras: Cameras | None = None,
) -> tuple[Views, Float[Tensor, "1 1 3 H W"]]:
    """One view with its image, and the scene as it is seen from there; see :func:`score_views`."""
    views = loaded(images, [number], inputs, settings)
    cameras = cameras or Cameras.given(images.world_to_camera)
    scene, exposure = scene.to(views.device), cameras.exposures([number]).to(views.device)
    if view_groups(settings.tto.groups):
        weights = pixel_weights(images, [number], inputs, settings)
        start = cameras.placed(views, [number])
        groups, backend = settings.tto.groups, settings.tto.backend
        views, exposure = fitted(scene, start, exposure, groups, backend, pixel_weights=weights)
    return views, shown(scene, views, exposure, settings.tto.backend)


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
