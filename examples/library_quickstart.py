"""TTOLayer in a training loop of one's own: no host, no data, no GPU; a few seconds on a laptop.

A "network" guesses the same size, opacity and color gain for every Gaussian of a scene whose depths are wrong. It is
trained through the refinement: the loss is on the rendering from a camera that the refinement did not see.

    python examples/library_quickstart.py
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from diff3r_plugin import Gaussians, ProximalWeights, TTOConfig, TTOLayer, Views
from diff3r_plugin.render import render

B, N, SIZE = 2, 150, 24  # scenes, Gaussians, pixels
GROUPS = ("means", "covariance", "opacity", "sh_dc")


def cameras(positions: list[float]) -> Views:
    """Cameras side by side that look along +z; without images."""
    world_to_camera = torch.eye(4).repeat(B, len(positions), 1, 1)
    world_to_camera[..., 0, 3] = -torch.tensor(positions)  # t = -R · position
    intrinsics = torch.tensor([[1.2 * SIZE, 0, SIZE / 2], [0, 1.2 * SIZE, SIZE / 2], [0, 0, 1]])
    return Views(world_to_camera, intrinsics.expand(B, len(positions), 3, 3), image_size=(SIZE, SIZE))


def spheres(means: Tensor, size: Tensor, opacity: Tensor, harmonics: Tensor) -> Gaussians:
    """Round Gaussians of one size and opacity."""
    return Gaussians(means, (size**2 * torch.eye(3)).expand(B, N, 3, 3), opacity.expand(B, N), harmonics)


def psnr(rendered: Tensor, truth: Tensor) -> float:
    """Of all scenes together, in dB."""
    return -10 * (rendered - truth).square().mean().log10().item()


def main(steps: int = 40) -> tuple[float, float]:
    """Train for some steps; returns the held-out PSNR after refinement before and after training."""
    torch.manual_seed(0)
    means = torch.rand(B, N, 3) * torch.tensor([2.0, 2.0, 1.0]) + torch.tensor([-1.0, -1.0, 2.0])
    truth = spheres(means, torch.tensor(0.08), torch.tensor(0.8), 1.5 * torch.rand(B, N, 3, 1) - 0.5)
    context, target = cameras([-0.3, 0.3]), cameras([0.0])
    context = context.replace(images=render(truth, context).clamp(0, 1))
    held_out = render(truth, target).clamp(0, 1)
    wrong_means = means * (1 + 0.05 * torch.randn(B, N, 1))

    network = nn.ParameterDict({"log_size": torch.tensor(-3.0), "logit": torch.tensor(0.0), "gain": torch.tensor(0.7)})
    log_weights = nn.ParameterDict({group: torch.tensor(1.0) for group in GROUPS})
    layer = TTOLayer(TTOConfig(inner_steps=6, groups=GROUPS))
    optimizer = torch.optim.Adam([*network.parameters(), *log_weights.parameters()], lr=0.05)
    scores = []
    for step in range(steps + 1):
        size, opacity = network["log_size"].exp(), network["logit"].sigmoid()
        predicted = spheres(wrong_means, size, opacity, network["gain"] * truth.harmonics)
        weights = ProximalWeights(**{group: log_weights[group].exp() for group in GROUPS})
        refined, info = layer(predicted, context, weights)  # differentiable in both
        rendered = render(refined, target)
        scores.append(psnr(rendered, held_out))
        if step % 10 == 0:
            print(
                f"step {step:3d}  held-out PSNR: predicted {psnr(render(predicted, target), held_out):5.2f} dB, "
                f"refined {scores[-1]:5.2f} dB   stationarity {info.stationarity.max():.3f}"
            )
        optimizer.zero_grad()
        (rendered - held_out).square().mean().backward()
        optimizer.step()
    print("learned proximal weights:", ", ".join(f"{group} {log_weights[group].exp():.2f}" for group in GROUPS))
    print(f"held-out PSNR after refinement: {scores[0]:.2f} dB before training, {scores[-1]:.2f} dB after")
    return scores[0], scores[-1]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))  # steps
