"""A scene like a network's prediction, of any size, made in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

TURN, STEP = 0.02, 0.15
"""Between neighboring views: radians, and world units at depths of 2 to 4."""


def predicted_scene(
    count: int,
    views: int,
    size: tuple[int, int],
    degree: int,
    backend: str = "auto",
    device: torch.device | str = "cpu",
) -> tuple[Gaussians, Views]:
    """Gaussians on a wavy surface, spread over the pixels of all views, and images that they do not match yet.

    Each covers about the pixels that fall to it, with a standard deviation of 0.7 of their side: one Gaussian a pixel
    where there are as many as pixels in all views, as pixel-aligned networks give.

    Args:
        count: Gaussians.
        views: Cameras.
        size: (H, W) of the images, px.
        degree: Of the spherical harmonics.
        backend: Which renders the images.
        device: Where all of it lies.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size
    focal = 1.2 * max(size)
    matrix = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    world_to_camera = torch.eye(4).repeat(views, 1, 1)
    angles = TURN * (torch.arange(views) - (views - 1) / 2)
    world_to_camera[:, 0, 0] = world_to_camera[:, 2, 2] = angles.cos()
    world_to_camera[:, 0, 2], world_to_camera[:, 2, 0] = angles.sin(), -angles.sin()
    world_to_camera[:, 0, 3] = STEP * (torch.arange(views) - (views - 1) / 2)

    owner = torch.arange(count) % views
    pixels = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    depths = 3 + torch.sin(6 * pixels[:, 0] / width) * torch.cos(5 * pixels[:, 1] / height)
    centers = (pixels - torch.tensor([width, height]) / 2) / focal * depths[:, None]
    in_camera = torch.cat([centers, depths[:, None]], -1)
    poses = world_to_camera[owner]
    means = (poses[:, :3, :3].mT @ (in_camera - poses[:, :3, 3])[..., None])[..., 0]
    side = math.sqrt(views * height * width / count)
    scales = (0.7 * side / focal * depths)[:, None].expand(count, 3)
    harmonics = torch.zeros(count, 3, (degree + 1) ** 2)
    harmonics[..., 0] = smooth(pixels, width, height)
    upright = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    opacities = torch.sigmoid(0.85 + 0.3 * torch.randn(count, generator=generator))
    truth = Gaussians.from_scales(means[None], scales[None], upright[None], opacities[None], harmonics[None])
    truth = truth.with_covariances().to(device)
    cameras = Views(world_to_camera[None], matrix.expand(1, views, 3, 3), image_size=size).to(device)
    images = render(truth, cameras, backend).clamp(0, 1)
    noise = torch.randn(truth.means.shape, generator=generator).to(device)
    predicted = Gaussians(
        truth.means + 0.5 * scales[None].to(device) * noise,
        1.3 * truth.covariances if truth.covariances is not None else None,
        truth.opacities,
        truth.harmonics + 0.2 * torch.randn(harmonics.shape, generator=generator).to(device),
    )
    return predicted, cameras.replace(images=images)


def smooth(pixels: Tensor, width: int, height: int) -> Tensor:
    """Colors that vary over the image, ``[count, 3]`` coefficients of the constant basis function."""
    x, y = pixels[:, 0] / width, pixels[:, 1] / height
    return torch.stack([torch.sin(9 * x + 4 * y), torch.cos(7 * y), torch.sin(5 * x * y)], -1)
