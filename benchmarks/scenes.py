"""Scenes of the size and kind that feed-forward networks predict, made of formulas."""

from __future__ import annotations

import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.data.ray_caster import render_room
from diff3r_plugin.data.writer import sample_scene
from diff3r_plugin.gaussians import rotation_matrices


def pixel_aligned_scene(
    context_size: int = 256,
    *,
    image_size: int | None = None,
    contexts: int = 2,
    degree: int = 0,
    sigma: float = 0.7,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Gaussians, Views]:
    """One Gaussian per pixel of every context view, seen by one camera between them.

    Args:
        context_size: Height and width of the context views, px; N = contexts · context_size².
        image_size: Height and width of the rendered image, px; that of the contexts if None.
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
    P = image_size or size
    intrinsics = torch.tensor([[P, 0, P / 2], [0, P, P / 2], [0, 0, 1]], dtype=dtype)
    views = Views(torch.eye(4, dtype=dtype)[None, None], intrinsics[None, None], image_size=(P, P))
    return gaussians.to(dtype), views


def predicted_room(
    size: int = 256, *, number: int = 0, degree: int = 1, baseline: int = 5, seed: int = 0
) -> tuple[Gaussians, Views]:
    """A procedural room as a network might predict it from two images, and those images.

    One Gaussian per pixel, its depth right up to a smooth error of some percent, its color that of the blurred
    image, its standard deviation 0.7 pixel, its opacity about 0.7.

    Args:
        size: Height and width of the images, px.
        number: Which room.
        baseline: Frames between the two images.
    """
    scene = sample_scene(seed=seed, split="test", number=number, frames=16)
    generator = torch.Generator().manual_seed(number)
    focal = scene.intrinsics[0] * size
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float32)
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    parts, images, cameras = [], [], []
    for frame in (4, 4 + baseline):
        pixels, depth = render_room(scene.room, scene.camera_to_room[frame], scene.intrinsics, (size, size))
        image = torch.as_tensor(pixels, dtype=torch.float32).permute(2, 0, 1) / 255
        noise = torch.nn.functional.interpolate(
            torch.randn(1, 1, 6, 6, generator=generator), (size, size), mode="bicubic"
        )
        z = torch.as_tensor(depth, dtype=torch.float32) * (1 + 0.03 * noise[0, 0])
        in_camera = torch.stack([(columns - size / 2) / focal * z, (rows - size / 2) / focal * z, z], -1)
        world_to_camera = torch.as_tensor(scene.world_to_camera[frame], dtype=torch.float32)
        camera_to_world = world_to_camera.inverse()
        means = in_camera.reshape(-1, 3) @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
        scales = (0.7 * z / focal).reshape(-1, 1, 1)
        blurred = torch.nn.functional.avg_pool2d(image[None], 3, 1, 1)[0]
        harmonics = torch.zeros(size**2, 3, (degree + 1) ** 2)
        harmonics[..., 0] = (blurred.permute(1, 2, 0).reshape(-1, 3) - 0.5) / 0.28209479
        opacities = torch.sigmoid(0.85 + 0.3 * torch.randn(size**2, generator=generator))
        parts.append((means, scales**2 * torch.eye(3), opacities, harmonics))
        images.append(image)
        cameras.append(world_to_camera)
    gaussians = Gaussians(*(torch.cat(tensors)[None] for tensors in zip(*parts, strict=True)))
    views = Views(torch.stack(cameras)[None], intrinsics.expand(1, 2, 3, 3), torch.stack(images)[None], near=0.05)
    return gaussians, views
