"""PSNR and SSIM of rendered images, as every part of this package reports them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def psnr(truth: Float[Tensor, "*batch 3 H W"], rendered: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of images clipped to [0, 1].

    >>> import torch
    >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1))
    tensor([20.])
    """
    error = (truth.clamp(0, 1) - rendered.clamp(0, 1)).square().mean((-3, -2, -1))
    return -10 * error.log10()


def ssim(truth: Float[Tensor, "*batch 3 H W"], rendered: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch"]:
    """Structural similarity (Wang et al. 2004): Gaussian window σ = 1.5 of 11 pixels, unbiased variances, data range 1.

    The same figure as scikit-image's ``structural_similarity(win_size=11, gaussian_weights=True, data_range=1.0)``,
    which the hosts report. Images smaller than the window give NaN.
    """
    batch, (height, width) = truth.shape[:-3], truth.shape[-2:]
    if min(height, width) < 11:
        return truth.new_full(batch, math.nan)
    x, y = (t.reshape(-1, 1, height, width).double() for t in (truth, rendered))
    offsets = torch.arange(-5, 6, dtype=torch.float64, device=truth.device)
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = window / window.sum()

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    unbiased = 121 / 120
    mean_x, mean_y = blur(x), blur(y)
    variance_x = unbiased * (blur(x * x) - mean_x**2)
    variance_y = unbiased * (blur(y * y) - mean_y**2)
    covariance = unbiased * (blur(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    quality = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return quality.reshape(*batch, -1).mean(-1).to(truth.dtype)
