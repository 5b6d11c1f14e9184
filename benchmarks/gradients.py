"""Gradients of the backward modes against the derivative of the run itself: ``python -m benchmarks.gradients``.

Small predicted rooms in float64, the outer loss on a view between the contexts. ``unroll`` differentiates the run
exactly (damping and preconditioner held constant); the others are compared with it by angle and length. Then seconds of
a forward and backward pass at the demo's size, relative to ``implicit`` in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.native import machine, print_table
from benchmarks.scenes import predicted_room
from diff3r_plugin import FirstOrder, Gaussians, GaussNewton, Implicit, Stepwise, Truncated, TTOLayer, Unroll, Views
from diff3r_plugin.backward import BackwardMode
from diff3r_plugin.render import render

MODES: dict[str, BackwardMode] = {
    "implicit": Implicit(stationarity_warning=None),
    "implicit, 32 PCG": Implicit(pcg_iterations=32, stationarity_warning=None),
    "stepwise": Stepwise(),
    "stepwise, 16 PCG": Stepwise(pcg_iterations=16),
    "truncated, last step": Truncated(steps=1),
    "first_order": FirstOrder(),
}
TIMED = ("implicit", "stepwise", "first_order")


def gradient(
    backward: BackwardMode, scene: Gaussians, views: Views, target: Views, weight: float, steps: int, backend: str
) -> torch.Tensor:
    """Of the outer loss to all numbers of the prediction, flat."""
    leaf = scene.map(lambda t: t.detach().clone().requires_grad_())
    layer = TTOLayer(solver=GaussNewton(steps=steps), backward=backward, backend=backend)
    refined, _ = layer(leaf, views, weight)
    assert target.images is not None
    loss = ((render(refined, target.replace(images=None), backend) - target.images) ** 2).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaf.tensors())])


def between(views: Views) -> Views:
    """A view half-way between the first two, with the mean of their images as a stand-in for what it sees."""
    cameras = views.world_to_camera[:, :1].clone()
    cameras[..., :3, 3] = views.world_to_camera[:, :2, :3, 3].mean(1, keepdim=True)
    assert views.images is not None
    return views.replace(
        images=views.images.mean(1, keepdim=True),
        world_to_camera=cameras,
        intrinsics=views.intrinsics[:, :1],
        near=views.near[:, :1],  # type: ignore[index]
        far=views.far[:, :1],  # type: ignore[index]
    )


def main() -> None:
    """Print the tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/gradients.json"))
    parser.add_argument("--rooms", type=int, default=3)
    parser.add_argument("--size", type=int, default=8, help="height and width of the rooms' images")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()

    rooms = []
    for number in range(args.rooms):
        scene, views = predicted_room(args.size, number=number)
        rooms.append((scene.to(torch.float64), views.to(torch.float64)))
    rows = []
    for weight in (0.1, 0.01):
        for steps in (4, 8):
            exact = [gradient(Unroll(), s, v, between(v), weight, steps, "torch") for s, v in rooms]
            for name, mode in MODES.items():
                found = [gradient(mode, s, v, between(v), weight, steps, "torch") for s, v in rooms]
                cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(found, exact, strict=True)]
                lengths = [float(a.norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
                rows.append(
                    {
                        "weight": weight,
                        "steps": steps,
                        "mode": name,
                        "cosine": round(statistics.mean(cosines), 3),
                        "least cosine": round(min(cosines), 3),
                        "length / exact": round(statistics.mean(lengths), 3),
                    }
                )
    print_table("Gradient to the prediction, against the derivative of the run", rows)

    scene, views = predicted_room(64)
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(args.repetitions + 1):
        for name in TIMED:
            started = time.perf_counter()
            gradient(MODES[name], scene, views, between(views), 0.01, 4, "auto")
            seconds[name].append(time.perf_counter() - started)
    timed = [
        {
            "mode": name,
            "seconds": round(statistics.median(values[1:]), 4),
            "relative to implicit": round(
                statistics.median(a / b for a, b in zip(values[1:], seconds["implicit"][1:], strict=True)), 2
            ),
        }
        for name, values in seconds.items()
    ]
    print_table("Forward and backward, 8,192 Gaussians, two 64x64 images", timed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({**machine(), "gradients": rows, "seconds": timed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
