"""TTOLayer in a training loop of one's own: no host, no data, no GPU; a few seconds on a laptop.

A "network" guesses the same size, opacity and color gain for every Gaussian of a scene whose depths are wrong. It is
trained through the refinement: the loss is on the rendering from a camera that the refinement did not see.

    python examples/library_quickstart.py
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

from diff3r_plugin import Gaussians, ProximalWeights, TTOConfig, TTOLayer, Views
from diff3r_plugin.render import render

SCENES, GAUSSIANS, SIZE = 2, 150, 24
GROUPS = ("means", "covariance", "opacity", "sh_dc")


def cameras(positions: list[float]) -> Views:
    """Cameras side by side that look along +z; without images."""
    count = len(positions)
    world_to_camera = torch.eye(4).repeat(SCENES, count, 1, 1)
    world_to_camera[..., 0, 3] = -torch.tensor(positions)  # t = -R · position
    intrinsics = torch.tensor([[1.2 * SIZE, 0, SIZE / 2], [0, 1.2 * SIZE, SIZE / 2], [0, 0, 1]])
    return Views(None, world_to_camera, intrinsics.expand(SCENES, count, 3, 3), image_size=(SIZE, SIZE))


def true_scenes() -> Gaussians:
    """Colored blobs in front of the cameras."""
    means = torch.rand(SCENES, GAUSSIANS, 3) * torch.tensor([2.0, 2.0, 1.0]) + torch.tensor([-1.0, -1.0, 2.0])
    covariances = (0.08**2 * torch.eye(3)).expand(SCENES, GAUSSIANS, 3, 3)
    return Gaussians(
        means, covariances, torch.full((SCENES, GAUSSIANS), 0.8), 1.5 * torch.rand(SCENES, GAUSSIANS, 3, 1) - 0.5
    )


class Network(nn.Module):
    """Stands for a feed-forward network: what it sees is fixed, what it predicts is learned.

    Args:
        seen: Scenes with the depths that the network believes in.
    """

    def __init__(self, seen: Gaussians) -> None:
        super().__init__()
        self.seen = seen
        self.log_size = nn.Parameter(torch.tensor(math.log(0.05)))
        self.opacity_logit = nn.Parameter(torch.tensor(0.0))
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.log_weights = nn.ParameterDict({group: nn.Parameter(torch.tensor(1.0)) for group in GROUPS})

    def forward(self) -> tuple[Gaussians, ProximalWeights]:
        """Initial Gaussians, and how strongly each kind of parameter is held there."""
        covariances = (2 * self.log_size).exp() * torch.eye(3)
        gaussians = Gaussians(
            self.seen.means,
            covariances.expand(SCENES, GAUSSIANS, 3, 3),
            self.opacity_logit.sigmoid().expand(SCENES, GAUSSIANS),
            self.gain * self.seen.harmonics,
        )
        return gaussians, ProximalWeights(**{group: self.log_weights[group].exp() for group in GROUPS})


def psnr(rendered: Tensor, truth: Tensor) -> float:
    """Of all scenes together, in dB."""
    return -10 * math.log10(((rendered - truth) ** 2).mean().item())


def main(steps: int = 40) -> tuple[float, float]:
    """Train for some steps; returns the held-out PSNR after refinement before and after training."""
    torch.manual_seed(0)
    truth = true_scenes()
    context, target = cameras([-0.3, 0.3]), cameras([0.0])
    context = context.replace(images=render(truth, context).clamp(0, 1))
    held_out = render(truth, target).clamp(0, 1)

    wrong_depth = truth.means * (1 + 0.05 * torch.randn(SCENES, GAUSSIANS, 1))
    network = Network(Gaussians(wrong_depth, truth.covariances, truth.opacities, truth.harmonics))
    layer = TTOLayer(TTOConfig(inner_steps=6, groups=GROUPS))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)

    first = last = math.nan
    for step in range(steps + 1):
        gaussians, weights = network()
        refined, info = layer(gaussians, context, weights)  # differentiable: theta* as a function of both
        rendered = render(refined, target)
        loss = ((rendered - held_out) ** 2).mean()
        last = psnr(rendered, held_out)
        first = last if step == 0 else first
        if step % 10 == 0:
            unrefined = psnr(render(gaussians, target), held_out)
            print(
                f"step {step:3d}  held-out PSNR: predicted {unrefined:5.2f} dB, refined {last:5.2f} dB   "
                f"energy {info.energy[0].sum():6.1f} -> {info.energy[-1].sum():5.1f}   "
                f"stationarity {info.stationarity.max():.3f}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = ", ".join(f"{group} {network.log_weights[group].exp():.2f}" for group in GROUPS)
    print(f"learned proximal weights: {held}")
    print(f"held-out PSNR after refinement: {first:.2f} dB before training, {last:.2f} dB after")
    return first, last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="training steps (default: 40)")
    main(parser.parse_args().steps)
