"""Time and memory of the whole layer: ``python -m benchmarks.layer [--output FILE] [--size 256]``.

The scene is what a network would predict from two images of a procedural room: one Gaussian a pixel at roughly
the right depth, with smooth errors in depth and color.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.native import machine, peak_memory, print_table, seconds
from benchmarks.scenes import predicted_room
from diff3r_plugin import Gaussians, TTOConfig, TTOInfo, TTOLayer, Views
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.objective import Objective
from diff3r_plugin.render import linearize

WEIGHT = 0.1


def solved(gaussians: Gaussians, views: Views) -> tuple[torch.Tensor, TTOInfo]:
    """The loss of a refined scene, ready for its backward."""
    leaf = gaussians.map(lambda t: t.clone().requires_grad_())
    config = TTOConfig(pcg_tolerance=0.0, inner_pcg_iterations=8, stationarity_warning=None)
    refined, info = TTOLayer(config)(leaf, views, WEIGHT)
    return refined.means.sum(), info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/layer.json"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    gaussians, views = predicted_room(options.size)
    coordinates = Coordinates(gaussians, views, TTOConfig().groups)
    zero = torch.zeros(1, coordinates.num_unknowns)
    here = Objective(coordinates, views, zero, torch.full_like(zero, WEIGHT)).linearize(zero)
    vector = torch.randn_like(zero)
    layer = TTOLayer(TTOConfig(stationarity_warning=None))
    loss, info = solved(gaussians, views)
    rows: dict[str, Callable[[], object]] = {
        "linearize the renderings": lambda: linearize(gaussians, views),
        "linearize the energy": lambda: here.objective.linearize(zero),
        "Gauss-Newton product in θ": lambda: here.gauss_newton_product(vector),
        "whole TTO, default settings": lambda: layer(gaussians, views, WEIGHT),
        "implicit backward, 8 PCG iterations": lambda: loss.backward(retain_graph=True),
    }
    times = {name: seconds(row, options.repetitions, budget=60) for name, row in rows.items()}
    memory = {name: peak_memory(row) for name, row in rows.items()}
    assert info.backward is not None and int(info.backward.iterations) == 8
    product = times["Gauss-Newton product in θ"]
    table = [{"row": n, "seconds": t, "products": t / product, "bytes": memory[n]} for n, t in times.items()]
    results: dict[str, Any] = {
        "machine": machine(),
        "size": options.size,
        "gaussians": gaussians.num_gaussians,
        "rows": table,
    }
    print(", ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    title = f"{gaussians.num_gaussians} Gaussians, two {options.size}x{options.size} views, SH degree 1, float32"
    print_table(title, table)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
