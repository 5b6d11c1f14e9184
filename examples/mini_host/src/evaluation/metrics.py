"""Image quality; all per image, for images in [0, 1]."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def compute_psnr(
    ground_truth: Float[Tensor, "batch channel height width"], predicted: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio in dB."""
    error = ground_truth.clip(0, 1) - predicted.clip(0, 1)
    return -10 * error.square().mean((1, 2, 3)).clamp_min(1e-10).log10()


def compute_ssim(
    ground_truth: Float[Tensor, "batch channel height width"],
    predicted: Float[Tensor, "batch channel height width"],
    window: int = 11,
    sigma: float = 1.5,
) -> Float[Tensor, " batch"]:
    """Structural similarity (Wang et al. 2004) with a Gaussian window, over the part where the window fits."""
    channels = ground_truth.shape[1]
    window = min(window, *ground_truth.shape[-2:])
    offsets = torch.arange(window, dtype=ground_truth.dtype, device=ground_truth.device) - (window - 1) / 2
    kernel = (-0.5 * (offsets / sigma).square()).exp()
    kernel = kernel / kernel.sum()

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    mean_a, mean_b = blur(ground_truth), blur(predicted)
    var_a = blur(ground_truth.square()) - mean_a.square()
    var_b = blur(predicted.square()) - mean_b.square()
    covariance = blur(ground_truth * predicted) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2, 3))
