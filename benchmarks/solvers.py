"""Energy against seconds of the inner solvers: ``python -m benchmarks.solvers [--output FILE] [--figure FILE]``.

Predicted procedural rooms (see ``benchmarks.scenes.predicted_room``) are refined with each solver and each number of
steps; every point is a complete run. The defaults of ``TTOConfig`` come from this table.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.native import machine, print_table
from benchmarks.scenes import predicted_room
from diff3r_plugin import TTOConfig, TTOLayer

SOLVERS: dict[str, dict] = {
    "gauss_newton, jacobi, 8 PCG": dict(inner_solver="gauss_newton", inner_pcg_iterations=8),
    "gauss_newton, jacobi, 4 PCG": dict(inner_solver="gauss_newton", inner_pcg_iterations=4),
    "gauss_newton, jacobi, 16 PCG": dict(inner_solver="gauss_newton", inner_pcg_iterations=16),
    "gauss_newton, block_jacobi, 4 PCG": dict(
        inner_solver="gauss_newton", inner_pcg_iterations=4, preconditioner="block_jacobi"
    ),
    "gauss_newton, block_jacobi, 8 PCG": dict(
        inner_solver="gauss_newton", inner_pcg_iterations=8, preconditioner="block_jacobi"
    ),
    "gauss_newton, none, 8 PCG": dict(inner_solver="gauss_newton", inner_pcg_iterations=8, preconditioner="none"),
    "gauss_newton, jacobi, 8 PCG, damping 0.001": dict(
        inner_solver="gauss_newton", inner_pcg_iterations=8, damping=1e-3
    ),
    "adam": dict(inner_solver="adam"),
    "adam, rates x 0.3": dict(inner_solver="adam", rate=0.3),
    "adam, rates x 3": dict(inner_solver="adam", rate=3.0),
}
STEPS = {"gauss_newton": (1, 2, 3, 4, 6, 8), "adam": (5, 10, 20, 40, 80)}
WEIGHTS = (0.1, 0.01)


def curve(scenes, options: dict, weight: float) -> list[dict]:
    """Energy (share of the start, mean over scenes) and seconds (median over scenes) after each number of steps."""
    options = dict(options)
    rate = options.pop("rate", None)
    if rate is not None:
        config = TTOConfig()
        options["learning_rates"] = {g: rate * config.learning_rate(g) for g in config.groups}
    points = []
    for steps in STEPS[options["inner_solver"]]:
        layer = TTOLayer(TTOConfig(inner_steps=steps, stationarity_tolerance=0.0, **options))
        runs = [layer(gaussians, views, weight)[1] for gaussians, views in scenes]
        points.append(
            {
                "steps": steps,
                "seconds": statistics.median(info.seconds for info in runs),
                "energy": statistics.mean((info.energy[-1] / info.energy[0]).item() for info in runs),
                "stationarity": statistics.mean(info.stationarity.item() for info in runs),
            }
        )
    return points


def plot(results: dict, path: Path) -> None:
    """One panel per weight, one line per solver."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(WEIGHTS), figsize=(11, 4.5), sharey=False)
    for panel, weight in zip(panels, WEIGHTS, strict=True):
        for row in results["curves"]:
            if row["weight"] == weight:
                style = "--" if row["solver"].startswith("adam") else "-"
                x = [p["seconds"] for p in row["points"]]
                panel.plot(x, [p["energy"] for p in row["points"]], style, marker="o", ms=3, label=row["solver"])
        panel.set(xscale="log", yscale="log", xlabel="seconds", ylabel="energy / energy at the start")
        panel.set_title(f"proximal weight {weight:g}")
        panel.grid(alpha=0.3, which="both")
    panels[-1].legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/solvers.json"))
    parser.add_argument("--figure", type=Path, default=Path("outputs/benchmarks/solvers.png"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=4)
    options = parser.parse_args()
    scenes = [predicted_room(options.size, number=n) for n in range(options.scenes)]
    TTOLayer(TTOConfig(inner_steps=1))(*scenes[0], 0.1)
    curves: list[dict[str, Any]] = [
        {"solver": name, "weight": weight, "points": curve(scenes, settings, weight)}
        for weight in WEIGHTS
        for name, settings in SOLVERS.items()
    ]
    results: dict[str, Any] = {"machine": machine(), "size": options.size, "scenes": options.scenes, "curves": curves}
    print(", ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    for weight in WEIGHTS:
        rows = [
            {"solver": row["solver"], **{f"{k}": v for k, v in point.items()}}
            for row in curves
            if row["weight"] == weight
            for point in row["points"]
        ]
        print_table(
            f"proximal weight {weight:g}, {options.scenes} rooms, two {options.size}x{options.size} views", rows
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1))
    plot(results, options.figure)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
