"""Scores of a scene on images, one view at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import PosedImages
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.refine.inputs import Inputs, loaded
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
        scores.append(
            {
                "psnr": float(psnr(views.images, rendered).mean()),
                "ssim": float(ssim(views.images, rendered).mean()),
            }
        )
    return scores


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """The mean of each over the images; None without any."""
    return {name: fmean(score[name] for score in scores) for name in METRICS} if scores else None
