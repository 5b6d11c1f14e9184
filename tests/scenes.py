"""Small random scenes that tests of all parts share."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import render


def random_scene(
    *,
    batch: int = 1,
    gaussians: int = 12,
    views: int = 2,
    size: tuple[int, int] = (12, 16),
    degree: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Gaussians, Views]:
    """Gaussians in front of slightly different cameras; images are random."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factor = 0.15 * normal(batch, gaussians, 3, 3)
    scene = Gaussians(
        0.5 * normal(batch, gaussians, 3) + torch.tensor([0.0, 0, 3]),
        factor @ factor.mT + 2e-3 * torch.eye(3),
        torch.sigmoid(normal(batch, gaussians)),
        0.3 * normal(batch, gaussians, 3, (degree + 1) ** 2),
    )
    turn = 0.05 * normal(batch, views, 3, 3)
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    world_to_camera[..., :3, :3] = torch.linalg.matrix_exp(turn - turn.mT)
    world_to_camera[..., :3, 3] = 0.1 * normal(batch, views, 3)
    H, W = size
    intrinsics = torch.tensor([[1.0 * W, 0, 0.5 * W], [0, 1.1 * H, 0.45 * H], [0, 0, 1]])
    images = torch.rand(batch, views, 3, H, W, generator=generator, dtype=torch.float64)
    cameras = Views(
        images.to(dtype),
        world_to_camera.to(dtype),
        intrinsics.expand(batch, views, 3, 3).to(dtype),
        background=(0.1, 0.2, 0.3),
    )
    return scene.to(dtype), cameras


def refinable_scene(**options) -> tuple[Gaussians, Views]:
    """A disturbed scene, with images of what it was before: the inner problem has a good solution."""
    truth, views = random_scene(**options)
    generator = torch.Generator().manual_seed(options.get("seed", 0) + 1)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    disturbed = Gaussians(
        truth.means + 0.03 * noise(truth.means),
        1.2 * truth.covariances,
        0.9 * truth.opacities,
        truth.harmonics + 0.1 * noise(truth.harmonics),
    )
    return disturbed, views.replace(images=render(truth, views).clamp(0, 1))


def random_tangent(scene: Gaussians, seed: int = 0) -> Gaussians:
    """A direction in which a scene may change; its covariance part is symmetric."""
    generator = torch.Generator().manual_seed(seed + 17)
    tangent = scene.map(lambda t: torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t))
    covariances = tangent.covariances
    return Gaussians(tangent.means, 0.01 * (covariances + covariances.mT), tangent.opacities, tangent.harmonics)


def inner(a: Gaussians, b: Gaussians) -> Tensor:
    """⟨a, b⟩ over all tensors."""
    return sum((x * y).sum() for x, y in zip(a.tensors(), b.tensors(), strict=True))


def moved(scene: Gaussians, tangent: Gaussians, step: float) -> Gaussians:
    """scene + step · tangent."""
    pairs = zip(scene.tensors(), tangent.tensors(), strict=True)
    return Gaussians(*(a + step * b for a, b in pairs))
