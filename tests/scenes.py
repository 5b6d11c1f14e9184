"""Small random scenes that tests of all parts share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.random_scenes import moved, random_scene, random_tangent
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import render

__all__ = ["inner", "moved", "random_scene", "random_tangent", "refinable_scene"]


def refinable_scene(**options: Any) -> tuple[Gaussians, Views]:
    """A disturbed scene, with images of what it was before: the inner problem has a good solution."""
    truth, views = random_scene(**options)
    generator = torch.Generator().manual_seed(options.get("seed", 0) + 1)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    disturbed = Gaussians(
        truth.means + 0.03 * noise(truth.means),
        1.2 * truth.covariance_matrices,
        0.9 * truth.opacities,
        truth.harmonics + 0.1 * noise(truth.harmonics),
    )
    return disturbed, views.replace(images=render(truth, views).clamp(0, 1))


def inner(a: Gaussians, b: Gaussians) -> Tensor:
    """⟨a, b⟩ over all tensors."""
    return torch.stack([(x * y).sum() for x, y in zip(a.tensors(), b.tensors(), strict=True)]).sum()
