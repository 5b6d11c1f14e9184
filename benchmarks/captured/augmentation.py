"""Other photographs of the same scene: crops anywhere in the image, zooms, other colors, another scale of the world.

What is done to one frame of a window is done to all, and cameras follow the pixels exactly. A crop off the middle is
made by turning the camera, because the miniature host's rasterizer has its principal point in the middle: the
homography of a rotation moves no point of view, so that no depth is needed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

SUPERSAMPLE = 2
"""Samples along each side of a pixel, averaged by an antialiasing filter: photographs are shrunk up to 2.25 times."""


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each variant of a window.

    Args:
        zoom: Least side of the crop as a share of the image's shorter side, in (0, 1].
        whole: Share of the variants that keep the whole shorter side, as at test.
        scale: The world is multiplied by up to this or its inverse, at least 1.
        color: Greatest change of brightness, contrast and saturation, as a factor less one; 0 for none.
        tint: The same for single channels.
    """

    zoom: float = 0.6
    whole: float = 0.3
    scale: float = 1.25
    color: float = 0.2
    tint: float = 0.06

    def __post_init__(self) -> None:
        if not 0 < self.zoom <= 1 or not 0 <= self.whole <= 1:
            raise ValueError(f"zoom must be in (0, 1] and whole in [0, 1], got {self.zoom:g} and {self.whole:g}.")
        if self.scale < 1 or min(self.color, self.tint) < 0 or max(self.color, self.tint) >= 1:
            raise ValueError(
                f"scale must be at least 1, color and tint in [0, 1); "
                f"got {self.scale:g}, {self.color:g}, {self.tint:g}."
            )


def crop(
    images: Float[Tensor, "frames 3 h w"],
    focal: tuple[float, float],
    side: float,
    place: tuple[float, float],
    size: int,
) -> tuple[Float[Tensor, "frames 3 size size"], tuple[float, float], Float[Tensor, "3 3"]]:
    """Square crops seen by cameras that are turned to the crop's middle.

    Args:
        images: In [0, 1], principal point in the middle.
        focal: Focal lengths in x and y, pixels of the images.
        side: Of the crop, pixels of the images, at most the shorter side.
        place: Wished middle of the crop relative to the image's middle, pixels; drawn back as far as it takes for the
            whole crop to lie within the image.
        size: Side of the result in pixels.

    Returns:
        The crops, their focal lengths in units of their side, and the rotation from old to new camera axes.
    """
    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2])
    lengths = torch.tensor(focal)
    new_focal = (focal[0] / side, focal[1] / side)
    steps = (torch.arange(size * SUPERSAMPLE) + 0.5) / (size * SUPERSAMPLE) - 0.5
    xy = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1) / torch.tensor(new_focal)
    rays = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
    middle = torch.tensor(place)
    for _ in range(12):
        rotation = _turned_to(middle / lengths)
        turned = rays @ rotation  # rows times R: each ray by R transposed, from new axes to old
        source = turned[..., :2] / turned[..., 2:] * lengths
        if bool((source.abs() <= half).all()):
            break
        middle = 0.7 * middle
    else:
        rotation = torch.eye(3)
        source = rays[..., :2] * lengths
    grid = (source / half).expand(len(images), -1, -1, -1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    small = F.interpolate(sampled, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return small, new_focal, rotation


def _turned_to(direction: Float[Tensor, "2"]) -> Float[Tensor, "3 3"]:
    """Rotation from camera axes to those of a camera that looks along (x, y, 1), yaw first, without roll."""
    x, y = direction.tolist()
    yaw, pitch = np.arctan2(x, 1), np.arctan2(y, np.hypot(x, 1))
    about_y = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    return torch.tensor(np.array(about_x) @ np.array(about_y), dtype=torch.float32)


def jitter(
    images: Float[Tensor, "frames 3 h w"], rng: np.random.Generator, options: Augmentation
) -> Float[Tensor, "frames 3 h w"]:
    """Other brightness, contrast, saturation and tint, the same for all frames."""
    gain, contrast, saturation = 1 + options.color * rng.uniform(-1, 1, 3)
    tint = torch.tensor(1 + options.tint * rng.uniform(-1, 1, 3), dtype=images.dtype)
    gray = images.mean(1, keepdim=True)
    images = gray + float(saturation) * (images - gray)
    middle = images.mean()
    images = middle + float(contrast) * (images - middle)
    return (float(gain) * images * rearrange(tint, "c -> c 1 1")).clamp(0, 1)
