"""Small random scenes for tests and checks of correctness, made on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin import Gaussians, Views


def random_scene(
    *,
    batch: int = 1,
    gaussians: int = 12,
    views: int = 2,
    size: tuple[int, int] = (12, 16),
    degree: int = 1,
    seed: int = 0,
    spread: float = 0.5,
    thickness: float = 0.15,
    opacities: tuple[float, float] = (0.0, 1.0),
    dtype: torch.dtype = torch.float64,
) -> tuple[Gaussians, Views]:
    """Gaussians around (0, 0, 3) and slightly different cameras at the origin; images are random.

    Args:
        size: Height and width of the images, px.
        spread: Standard deviation of the centers, world units.
        thickness: Size of the Gaussians, world units.
        opacities: Lowest and highest.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factor = thickness * normal(batch, gaussians, 3, 3)
    low, high = opacities
    scene = Gaussians(
        spread * normal(batch, gaussians, 3) + torch.tensor([0.0, 0, 3]),
        factor @ factor.mT + 0.09 * thickness**2 * torch.eye(3),
        low + (high - low) * torch.sigmoid(normal(batch, gaussians)),
        0.3 * normal(batch, gaussians, 3, (degree + 1) ** 2),
    )
    turn = 0.05 * normal(batch, views, 3, 3)
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    world_to_camera[..., :3, :3] = torch.linalg.matrix_exp(turn - turn.mT)
    world_to_camera[..., :3, 3] = 0.1 * normal(batch, views, 3)
    H, W = size
    intrinsics = torch.tensor([[1.0 * W, 0, 0.5 * W], [0, 1.1 * H, 0.45 * H], [0, 0, 1]], dtype=torch.float64)
    images = torch.rand(batch, views, 3, H, W, generator=generator, dtype=torch.float64)
    cameras = Views(
        world_to_camera.to(dtype),
        intrinsics.expand(batch, views, 3, 3).to(dtype),
        images.to(dtype),
        background=(0.1, 0.2, 0.3),
    )
    return scene.to(dtype), cameras


def random_tangent(scene: Gaussians, seed: int = 0) -> Gaussians:
    """A direction in which a scene may change; its covariance part is symmetric, of the size of the covariances."""
    generator = torch.Generator().manual_seed(seed + 17)
    tangent = scene.map(lambda t: torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t))
    covariances = tangent.covariances
    assert covariances is not None
    return Gaussians(tangent.means, 0.01 * (covariances + covariances.mT), tangent.opacities, tangent.harmonics)


def moved(scene: Gaussians, tangent: Gaussians, step: float) -> Gaussians:
    """scene + step · tangent."""
    return Gaussians(*(a + step * b for a, b in zip(scene.tensors(), tangent.tensors(), strict=True)))
