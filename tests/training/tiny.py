"""A network of two convolutions and scenes it can learn in seconds."""

from __future__ import annotations

import torch
from torch import nn

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.training import Batch, Prediction

H, W, V = 12, 14, 2


class TinyNetwork(nn.Module):
    """A Gaussian a pixel, at depths around 2; cameras on request."""

    def __init__(self, predicts_cameras: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 5, 1))
        self.shift = nn.Parameter(torch.tensor([0.0])) if predicts_cameras else None

    def forward(self, context: Views) -> Prediction:
        images = context.given_images
        raw = self.layers(images.flatten(0, 1)).unflatten(0, images.shape[:2]).permute(0, 1, 3, 4, 2)
        rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        rays = torch.stack([columns, rows, torch.ones(H, W)], -1) @ torch.linalg.inv(context.intrinsics)[0, 0].mT
        points = rays * (2 + 0.2 * raw[..., :1].tanh())
        poses = context.world_to_camera
        if self.shift is not None:  # half the baseline of the data: another scale
            poses = torch.eye(4).repeat(*poses.shape[:2], 1, 1)
            poses[:, 1, 0, 3] = 0.5 * context.world_to_camera[:, 1, 0, 3] + self.shift
        means = (points - poses[:, :, None, None, :3, 3]).flatten(1, 3)  # these cameras are not turned
        size = torch.eye(3) * (2.0 / W) ** 2
        return Prediction(
            Gaussians(
                means,
                size.expand(*means.shape[:2], 3, 3),
                (raw[..., 4] + 1).sigmoid().flatten(1, 3),
                raw[..., 1:4].flatten(1, 3)[..., None],
            ),
            None if self.shift is None else poses,
            features=raw.permute(0, 1, 4, 2, 3),
        )


def batch(seed: int, scenes: int = 2) -> Batch:
    """A wall of one soft color at depth 2, seen from three places."""
    generator = torch.Generator().manual_seed(seed)
    color = 0.3 + 0.4 * torch.rand(scenes, 1, 3, 1, 1, generator=generator)
    slope = torch.linspace(-0.1, 0.1, W).expand(H, W)
    images = (color + slope).expand(scenes, V + 1, 3, H, W).clone()
    cameras = torch.eye(4).repeat(scenes, V + 1, 1, 1)
    cameras[..., 0, 3] = torch.tensor([0.0, -0.2, -0.1])
    K = torch.tensor([[9.0, 0, W / 2], [0, 9, H / 2], [0, 0, 1]]).expand(scenes, V + 1, 3, 3)
    context = Views(cameras[:, :V], K[:, :V], images[:, :V], near=0.1)
    return Batch(context, Views(cameras[:, V:], K[:, V:], images[:, V:], near=0.1), ("wall",) * scenes)


class Batches(torch.utils.data.Dataset):
    """As many batches as asked for, the same ones in the same order every time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        return batch(index)


def loader(count: int):
    return torch.utils.data.DataLoader(Batches(count), batch_size=None)
