"""The model of a host in a shape that no adapter of the package knows: a plain module, rendered by itself."""

import torch
from torch import nn

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import render

B, V, H, W = 2, 2, 10, 12


class Encoder(nn.Module):
    """A Gaussian for every pixel, near a plane before the first camera."""

    def __init__(self):
        super().__init__()
        self.to_gaussians = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, views):
        images = views["image"]
        b, v, _, h, w = images.shape
        raw = self.to_gaussians(images.flatten(0, 1)).unflatten(0, (b, v)).permute(0, 1, 3, 4, 2)
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        plane = torch.stack([x / w - 0.5, y / h - 0.5, torch.ones(h, w)], -1) * 2
        count = v * h * w
        return {
            "means": (plane + 0.1 * raw[..., :1]).flatten(1, 3),
            "scales": torch.full((b, count, 3), 2 / w),
            "quats": torch.tensor([1.0, 0, 0, 0]).expand(b, count, 4),
            "opacities": raw[..., 4].sigmoid().flatten(1, 3),
            "harmonics": raw[..., 1:4].flatten(1, 3)[..., None],
        }


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, batch):
        return self.draw(self.encoder(batch["context"]), batch["target"])

    def draw(self, scene, views):
        names = ("means", "scales", "quats", "opacities", "harmonics")
        gaussians = Gaussians.from_scales(*(scene[name] for name in names))
        cameras = Views(views["cameras"], views["intrinsics"], near=0.1, image_size=views["image"].shape[-2:])
        return render(gaussians, cameras)


class Scenes(torch.utils.data.Dataset):
    """Walls of one color each, between two cameras."""

    def __init__(self, split, count=4):
        self.split, self.count = split, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        color = 0.3 + 0.4 * torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(index))
        intrinsics = torch.tensor([[float(W), 0, W / 2], [0, W, H / 2], [0, 0, 1]])

        def views(shifts):
            cameras = torch.eye(4).repeat(len(shifts), 1, 1)
            cameras[:, 0, 3] = torch.tensor(shifts)
            image = color.expand(len(shifts), 3, H, W).clone()
            return {"image": image, "cameras": cameras, "intrinsics": intrinsics.expand(len(shifts), 3, 3)}

        return {"context": views([0.0, 0.1]), "target": views([0.05]), "name": f"{self.split}{index}"}
