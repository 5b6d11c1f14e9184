"""What the GPU kernels do for a product, counted without a GPU: ``python -m benchmarks.instructions``.

Their PTX runs on the CPU a warp at a time (``tests/ptx_on_cpu``), and every PTX instruction that a warp executes counts
once, with however many lanes. Rows are those of docs/performance.md: forward is projection, tile lists and rasterizer,
without the sorting; a product is from a tangent of Gaussians to their cotangents. The scene: Gaussians aligned with the
pixels of two context views, one image. Options: ``--context PX`` (N = 2 PX²), ``--image PX``, ``--degree D``;
``--json FILE`` also writes the counts; ``--lines KERNEL`` lists where a kernel's instructions come from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_scenes import random_tangent
from benchmarks.scenes import pixel_aligned_scene
from diff3r_plugin.kernels.loading import modules_cuda

ROOT = Path(__file__).resolve().parents[1]
CONTEXT, IMAGE, DEGREE = 128, 128, 1
"""32,768 Gaussians."""

RATIOS = {
    "JVP / forward": (("JVP",), ("forward",)),
    "product / (forward + VJP)": (("product",), ("forward", "VJP")),
}
"""Numerators and denominators, of the rows."""


def measure(context: int = CONTEXT, image: int = IMAGE, degree: int = DEGREE) -> dict[str, Counter[tuple[str, str]]]:
    """Instructions of warps in each row, by kernel and line of the sources.

    Raises:
        SystemExit: without g++ or a CUDA compiler.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from ptx_on_cpu import backend as ptx
    finally:
        sys.path.pop(0)
    reason = ptx.missing()
    if reason is not None:
        raise SystemExit(f"benchmarks.instructions runs the kernels' PTX on the CPU: {reason}.")
    scene, views = pixel_aligned_scene(context, image_size=image, degree=degree)
    generator = torch.Generator().manual_seed(0)
    tangent = random_tangent(scene.to(torch.float64), 0).to(torch.float32)
    rows = {}
    with ptx.running(checked=False) as (driver, rasterizer):

        def counted(name: str, call: Any) -> Any:
            before = driver.lines()
            result = call()
            rows[name] = driver.lines() - before
            return result

        lin = counted("forward", lambda: ptx.backend(rasterizer).linearize(scene, views))
        cotangent = torch.randn(lin.image.shape, generator=generator)
        weights = torch.rand(lin.image[:, :, 0].shape, generator=generator)
        counted("JVP", lambda: lin.jvp(tangent))
        counted("VJP", lambda: lin.vjp(cotangent))
        counted("product", lambda: lin.gauss_newton_product(tangent, weights))
        counted("Gram matrices", lambda: lin.gram(weights))
    return rows


def by_kernel(lines: Counter[tuple[str, str]]) -> dict[str, int]:
    """Without the lines."""
    total: Counter[str] = Counter()
    for (kernel, _), count in lines.items():
        total[kernel.removeprefix("diff3r_")] += count
    return dict(total)


def as_json(rows: dict[str, Counter[tuple[str, str]]]) -> dict[str, Any]:
    """As it is written to a file."""
    counts = {name: by_kernel(lines) for name, lines in rows.items()}
    total = {name: sum(kernels.values()) for name, kernels in counts.items()}
    ratios = {
        name: round(sum(total[row] for row in above) / sum(total[row] for row in below), 3)
        for name, (above, below) in RATIOS.items()
    }
    return {"compiler": modules_cuda.compilers()[0][0].name, "instructions": counts, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", type=int, default=CONTEXT, help="side of the context views, px")
    parser.add_argument("--image", type=int, default=IMAGE, help="side of the image, px")
    parser.add_argument("--degree", type=int, default=DEGREE, help="of the spherical harmonics")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    parser.add_argument("--lines", help="list the lines that a kernel's instructions come from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.context, arguments.image, arguments.degree)
    result = as_json(rows)
    print("| | warp instructions, thousands | by kernel |\n| --- | --- | --- |")
    for name, kernels in result["instructions"].items():
        parts = ", ".join(f"{kernel} {count / 1e3:.0f}" for kernel, count in kernels.items())
        print(f"| {name} | {sum(kernels.values()) / 1e3:.0f} | {parts} |")
    for name, ratio in result["ratios"].items():
        print(f"| {name} | {ratio:.2f} | |")
    if arguments.lines:
        total: Counter[str] = Counter()
        for lines in rows.values():
            for (kernel, line), count in lines.items():
                if kernel == f"diff3r_{arguments.lines}":
                    total[line] += count
        print(*(f"{count:10d} {line}" for line, count in total.most_common(40)), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
