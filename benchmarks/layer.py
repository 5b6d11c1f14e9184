"""Time of the whole layer: ``python -m benchmarks.layer [--output FILE] [--size 256] [--repetitions 7]``.

The scene is what a network would predict from two images of a procedural room: one Gaussian a pixel at roughly
the right depth, with smooth errors in depth and color.

Every step in θ is timed against the step of the renderings alone that it contains, both fused into the kernels and
composed in PyTorch. All rows take turns, so that a busy machine slows them alike; a ratio is the median of the ratios
within the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch

from benchmarks.native import machine, print_table
from benchmarks.scenes import predicted_room
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.linalg import pcg
from diff3r_plugin.linalg.vector_updates import TorchUpdates
from diff3r_plugin.linearized import ComposedLinearization
from diff3r_plugin.objective import Objective
from diff3r_plugin.render import linearize

WEIGHT = 0.1


def solved(gaussians: Gaussians, views: Views) -> tuple[torch.Tensor, TTOInfo]:
    """The loss of a refined scene, ready for its backward."""
    leaf = gaussians.map(lambda t: t.clone().requires_grad_())
    config = TTOConfig(pcg_tolerance=0.0, inner_pcg_iterations=8, stationarity_warning=None)
    refined, info = TTOLayer(config)(leaf, views, WEIGHT)
    return refined.means.sum(), info


@contextlib.contextmanager
def composed() -> Iterator[None]:
    """The layer without the fused linearization in θ and the fused vector work."""

    def linearize_theta(coordinates, theta, views, backend="auto"):
        return ComposedLinearization(coordinates, theta, views, "native")

    with (
        mock.patch("diff3r_plugin.objective.linearize_theta", linearize_theta),
        mock.patch("diff3r_plugin.linalg.pcg.updates_for", lambda b, preconditioner: TorchUpdates(preconditioner)),
    ):
        yield


class Steps:
    """The steps of one objective, each made anew at every call."""

    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        coordinates = Coordinates(gaussians, views, TTOConfig().groups)
        self.zero = torch.zeros(1, coordinates.num_unknowns)
        self.vector, self.buffer = torch.randn_like(self.zero), torch.empty_like(self.zero)
        self.objective = Objective(coordinates, views, self.zero, torch.full_like(self.zero, WEIGHT))
        self.layer, self.gaussians, self.views = TTOLayer(TTOConfig(stationarity_warning=None)), gaussians, views
        self.here = self.objective.linearize(self.zero)
        self.inverse = self.here.preconditioner("jacobi")
        self.loss, info = solved(gaussians, views)
        self.loss.backward(retain_graph=True)
        assert info.backward is not None and int(info.backward.iterations) == 8

    def linearize(self) -> None:
        self.objective.linearize(self.zero)

    def gradient(self) -> None:
        self.here.__dict__.pop("gradient", None)
        _ = self.here.gradient

    def product(self) -> None:
        self.here.gauss_newton_product(self.vector, out=self.buffer)

    def preconditioner(self) -> None:
        self.here.__dict__.pop("_data_diagonal", None)
        if isinstance(self.here._render, ComposedLinearization):
            self.here._render._gram = None
        self.here.preconditioner("jacobi")

    def pcg(self) -> None:
        def matvec(v):
            return self.here.gauss_newton_product(v, out=self.buffer)

        pcg(matvec, self.vector, preconditioner=self.inverse, max_iterations=4, tolerance=0.0)

    def tto(self) -> None:
        self.layer(self.gaussians, self.views, WEIGHT)

    def backward(self) -> None:
        self.loss.backward(retain_graph=True)


def timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def turns(rows: dict[str, Callable[[], object]], repetitions: int) -> list[dict[str, float]]:
    """Seconds of each row, turn by turn, after one turn to warm up."""
    return [{name: timed(row) for name, row in rows.items()} for _ in range(repetitions + 1)][1:]


def rows_of(steps: Steps) -> dict[str, Callable[[], object]]:
    """What is timed in every turn."""
    gaussians, views = steps.gaussians, steps.views
    images = linearize(gaussians, views)
    tangent, cotangent = gaussians.map(torch.randn_like), torch.randn_like(images.image)
    weights = torch.ones_like(images.image[:, :, 0])
    with composed():
        other = Steps(gaussians, views)

    def in_pytorch(step: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with composed():
                step()

        return run

    rows: dict[str, Callable[[], object]] = {
        "linearize the renderings": lambda: linearize(gaussians, views),
        "VJP of the renderings": lambda: images.vjp(cotangent),
        "product of the renderings": lambda: images.gauss_newton_product(tangent, weights),
    }
    for name, step in STEPS.items():
        rows[name] = getattr(steps, step)
        rows[f"{name}, composed"] = in_pytorch(getattr(other, step))
    return rows


STEPS = {
    "linearize the energy": "linearize",
    "gradient": "gradient",
    "product in θ": "product",
    "preconditioner": "preconditioner",
    "4 iterations of PCG": "pcg",
    "whole TTO, default settings": "tto",
    "implicit backward, 8 PCG iterations": "backward",
}
"""Methods of :class:`Steps` by the name of their row."""

RATIOS = {
    "linearize the energy": ("linearize the renderings", 1, 1.6, 1.2),
    "gradient": ("VJP of the renderings", 1, None, None),
    "product in θ": ("product of the renderings", 1, 1.2, 1.05),
    "preconditioner": ("VJP of the renderings", 1, 1.5, 1.0),
    "4 iterations of PCG": ("product of the renderings", 4, None, None),
    "implicit backward, 8 PCG iterations": ("product of the renderings", 8, None, None),
}
"""Row, what it is measured in and how many of them, the most it must be and what it aims at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/layer.json"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    gaussians, views = predicted_room(options.size)
    taken = turns(rows_of(Steps(gaussians, views)), options.repetitions)
    table = []
    for name in taken[0]:
        times = [turn[name] for turn in taken]
        row = {"row": name, "seconds": statistics.median(times), "least": min(times)}
        unit, count, must, aim = RATIOS.get(name.removesuffix(", composed"), (None, 1, None, None))
        if unit is not None:
            row["ratio"] = statistics.median(turn[name] / (count * turn[unit]) for turn in taken)
            row |= {"in": f"{count} x {unit}" if count > 1 else unit, "must": must, "aim": aim}
        table.append(row)
    results = {"machine": machine(), "size": options.size, "gaussians": gaussians.num_gaussians, "rows": table}
    print(", ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    title = f"{gaussians.num_gaussians} Gaussians, two {options.size}x{options.size} views, SH degree 1, float32"
    print_table(title, table)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
