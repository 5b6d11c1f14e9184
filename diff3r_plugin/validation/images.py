"""Images and backgrounds outside of [0, 1]; weights of pixels that cannot be."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.validation.finding import Finding, beyond, finite_range
from diff3r_plugin.views import Views

ROUNDING = 1e-4


def image_findings(views: Views, pixel_weights: Tensor | None) -> list[Finding]:
    """Of the images of a call, and of how much their pixels count."""
    background = views.background.detach()
    findings = [Finding(beyond(background, -ROUNDING, 1 + ROUNDING), lambda: _background(background))]
    if views.images is not None:
        images = views.images.detach()
        findings.append(Finding(beyond(images, -ROUNDING, 1 + ROUNDING), lambda: _images(images)))
    if pixel_weights is not None:
        weights = pixel_weights.detach()
        largest = torch.finfo(weights.dtype).max if weights.dtype.is_floating_point else torch.iinfo(torch.int64).max
        findings.append(Finding(beyond(weights, 0, largest), lambda: _pixel_weights(weights)))
    return findings


def _background(background: Tensor) -> str:
    values = ", ".join(f"{value:.3g}" for value in background.tolist())
    cure = "Divide by 255." if float(background.max()) > 1.5 else "Undo the normalization of the images on it, too."
    return f"The background must be three numbers in [0, 1], as the images are, got ({values}). {cure}"


def _images(images: Tensor) -> str | None:
    spread = finite_range(images)
    if spread is None or (spread[0] >= -ROUNDING and spread[1] <= 1 + ROUNDING):
        return None
    return (
        f"Images must lie in [0, 1], got [{spread[0]:.3g}, {spread[1]:.3g}]. Undo the network's normalization "
        "first (images in [-1, 1]: image * 0.5 + 0.5; in [0, 255]: image / 255)."
    )


def _pixel_weights(weights: Tensor) -> str:
    bad = weights[~(weights >= 0) | weights.isinf()]
    return (
        f"pixel_weights must not be negative, infinite or NaN, got {float(bad[0]):g} ({len(bad)} of {weights.numel()} "
        "values). 0 leaves a pixel out; raw outputs of a network become weights by sigmoid or softplus."
    )
