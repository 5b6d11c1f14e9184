"""Scenes of the size and kind that feed-forward networks predict, made of formulas."""

from __future__ import annotations

import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.gaussians import rotation_matrices


def pixel_aligned_scene(
    context_size: int = 256,
    *,
    picture_size: int | None = None,
    contexts: int = 2,
    degree: int = 0,
    sigma: float = 0.7,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Gaussians, Views]:
    """One Gaussian per pixel of every context view, seen by one camera between them.

    Args:
        context_size: Height and width of the context views, px; N = contexts · context_size².
        picture_size: Height and width of the rendered picture, px; that of the contexts if None.
        sigma: Standard deviation of a Gaussian, in pixels of its context view.
    """
    generator = torch.Generator().manual_seed(seed)
    size, focal = context_size, 1.0 * context_size
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    means, covariances = [], []
    for context in range(contexts):
        hills = torch.rand(1, 1, 8, 8, generator=generator)
        depth = 2.5 + 1.5 * torch.nn.functional.interpolate(hills, (size, size), mode="bicubic")[0, 0]
        x = (columns - size / 2) / focal * depth + 0.2 * (context - (contexts - 1) / 2)
        y = (rows - size / 2) / focal * depth
        means.append(torch.stack([x, y, depth], -1).reshape(-1, 3))
        scales = (sigma * depth / focal).reshape(-1, 1) * torch.exp(0.2 * torch.randn(size**2, 3, generator=generator))
        factor = rotation_matrices(torch.randn(size**2, 4, generator=generator)) * scales[:, None]
        covariances.append(factor @ factor.mT)
    N = contexts * size**2
    gaussians = Gaussians(
        torch.cat(means)[None],
        torch.cat(covariances)[None],
        torch.rand(1, N, generator=generator),
        0.3 * torch.randn(1, N, 3, (degree + 1) ** 2, generator=generator),
    )
    P = picture_size or size
    intrinsics = torch.tensor([[P, 0, P / 2], [0, P, P / 2], [0, 0, 1]], dtype=dtype)
    views = Views(None, torch.eye(4, dtype=dtype)[None, None], intrinsics[None, None], image_size=(P, P))
    return gaussians.to(dtype), views
