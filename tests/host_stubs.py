"""Encoder calls as the hosts of the family make them, without any host."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

B, V, H, W = 2, 2, 6, 8


@dataclass
class HostGaussians:
    means: Tensor
    covariances: Tensor
    harmonics: Tensor
    opacities: Tensor


def host_gaussians(
    scenes: int = B, per_pixel: int = 1, coefficients: int = 25, seed: int = 0, views: int = V
) -> HostGaussians:
    generator = torch.Generator().manual_seed(seed)
    n = views * H * W * per_pixel
    factor = 0.2 * torch.randn(scenes, n, 3, 3, generator=generator)
    return HostGaussians(
        torch.randn(scenes, n, 3, generator=generator) + torch.tensor([0.0, 0, 4]),
        factor @ factor.mT + 1e-3 * torch.eye(3),
        0.3 * torch.randn(scenes, n, 3, coefficients, generator=generator),
        torch.rand(scenes, n, generator=generator),
    )


def context(
    image_range: tuple[float, float] = (0.0, 1.0),
    center: tuple[float, float] = (0.5, 0.5),
    scenes: int = B,
    views: int = V,
) -> dict:
    generator = torch.Generator().manual_seed(1)
    low, high = image_range
    turn = 0.1 * torch.randn(scenes, views, 3, 3, generator=generator)
    extrinsics = torch.eye(4).repeat(scenes, views, 1, 1)
    extrinsics[..., :3, :3] = torch.linalg.matrix_exp(turn - turn.mT)
    extrinsics[..., :3, 3] = 0.2 * torch.randn(scenes, views, 3, generator=generator)
    intrinsics = torch.tensor([[0.9, 0, center[0]], [0, 1.2, center[1]], [0, 0, 1]]).repeat(scenes, views, 1, 1)
    return {
        "image": low + (high - low) * torch.rand(scenes, views, 3, H, W, generator=generator),
        "extrinsics": extrinsics,
        "intrinsics": intrinsics,
        "near": torch.full((scenes, views), 0.5),
        "far": torch.full((scenes, views), 100.0),
    }


def wrapper(per_pixel: int = 1, **decoder: Any) -> SimpleNamespace:
    return SimpleNamespace(
        encoder=SimpleNamespace(cfg=SimpleNamespace(gaussians_per_pixel=per_pixel, num_surfaces=1)),
        decoder=SimpleNamespace(**{"background_color": torch.zeros(3), **decoder}),
    )
