"""Time and memory of the native backend: ``python -m benchmarks.native [--output FILE] [--quick]``.

Prints tables and writes a JSON with everything in them: seconds as medians of repetitions, ratios, the machine and
the commit. Rows for other layers are added to ROWS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.limits import shares
from benchmarks.scenes import pixel_aligned_scene
from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.render import native_backend


class Workload:
    """A scene, its linearization, and vectors to multiply it with."""

    def __init__(self, context_size: int, image_size: int, degree: int) -> None:
        self.gaussians, self.views = pixel_aligned_scene(context_size, image_size=image_size, degree=degree)
        self.lin = native_backend.linearize(self.gaussians, self.views)
        self.tangent = self.gaussians.map(torch.randn_like)
        self.cotangent = torch.randn_like(self.lin.image)
        self.weights = torch.rand_like(self.lin.image[:, :, 0])


ROWS: dict[str, Callable[[Workload], object]] = {
    "forward": lambda w: native_backend.render_image(w.gaussians, w.views),
    "linearize": lambda w: native_backend.linearize(w.gaussians, w.views),
    "vjp": lambda w: w.lin.vjp(w.cotangent),
    "jvp": lambda w: w.lin.jvp(w.tangent),
    "product": lambda w: w.lin.gauss_newton_product(w.tangent, w.weights),
    "gram": lambda w: w.lin.gram(w.weights),
}

RATIOS: dict[str, tuple[Callable[[dict[str, float]], float], float, float]] = {
    "jvp / forward": (lambda t: t["jvp"] / t["forward"], 1.5, 1.0),
    "product / (forward + vjp)": (lambda t: t["product"] / (t["forward"] + t["vjp"]), 1.0, 0.7),
    "gram / vjp": (lambda t: t["gram"] / t["vjp"], 3.0, 1.5),
}
"""Ratio, most it must be, and what it aims at."""

LIMITS = {"forward": (0.060, 0.030), "vjp": (0.120, 0.060)}
"""Seconds that a row must and aims to stay within, at 131,072 Gaussians and 256 x 256 pixels on two cores."""


def seconds(call: Callable[[], object], repetitions: int, budget: float = 4.0) -> float:
    """Median time of a call, after one to warm up; fewer repetitions if they take longer than ``budget``."""
    call()
    times: list[float] = []
    while len(times) < repetitions and (len(times) < 3 or sum(times) < budget):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_memory(call: Callable[[], object]) -> int | None:
    """Bytes that the process grows by at most during a call (Linux), its result included."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None


def _status(name: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


def compile_seconds() -> float:
    """Time of the first use: all sources, both dtypes, an empty cache."""
    program = "import time, torch; from diff3r_plugin.kernels.loading.build_cpu import library_path; "
    program += "t = time.perf_counter(); library_path(); print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"DIFF3R_CACHE_DIR": cache}
        out = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        )
    return float(out.stdout)


def main_table(repetitions: int) -> list[dict]:
    """The workload that the project measures itself by, with the degree of the harmonics as parameter."""
    rows = []
    for degree in (0, 3):
        work = Workload(256, 256, degree)
        memory = {name: peak_memory(partial(row, work)) for name, row in ROWS.items()}
        times = {name: seconds(partial(row, work), repetitions) for name, row in ROWS.items()}
        for name, value in times.items():
            must, aim = LIMITS.get(name, (None, None))
            rows.append(
                {"degree": degree, "row": name, "seconds": value, "bytes": memory[name], "must": must, "aim": aim}
            )
        for name, (ratio, must, aim) in RATIOS.items():
            rows.append({"degree": degree, "row": name, "ratio": ratio(times), "must": must, "aim": aim})
    return rows


def scaling_table(repetitions: int, quick: bool) -> list[dict]:
    """Cost against the number of Gaussians and of pixels, one at a time and both together."""
    contexts, images = (64, 128, 256, 512, 724), (64, 128, 256, 512, 1024)
    cases = [(size, 256) for size in contexts] + [(256, size) for size in images] + [(size, size) for size in contexts]
    rows = []
    for context_size, image_size in dict.fromkeys(cases[:3] if quick else cases):
        work = Workload(context_size, image_size, 0)
        row: dict[str, float] = {"gaussians": work.gaussians.num_gaussians, "pixels": image_size**2}
        row["intersections"] = work.lin.intersections
        row |= {name: seconds(partial(f, work), repetitions, budget=1.0) for name, f in ROWS.items()}
        rows.append(row)
    return rows


def thread_table(repetitions: int) -> list[dict]:
    """How well a second thread is used: t₁ / (2 t₂)."""
    work, before = Workload(256, 256, 0), torch.get_num_threads()
    rows = []
    for name, row in ROWS.items():
        times = {}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            times[threads] = seconds(partial(row, work), repetitions)
        rows.append({"row": name, "1 thread": times[1], "2 threads": times[2], "efficiency": times[1] / (2 * times[2])})
    torch.set_num_threads(before)
    return rows


def limits_table(repetitions: int) -> list[dict]:
    """How much of the machine's arithmetic and memory the products use, with one thread and with all."""
    work, before = Workload(256, 256, 0), torch.get_num_threads()
    rows = []
    for threads in sorted({1, before}):
        torch.set_num_threads(threads)
        times = {name: seconds(partial(ROWS[name], work), repetitions) for name in ("jvp", "product", "gram")}
        rows += shares(work.lin, times, threads)
    torch.set_num_threads(before)
    return rows


def machine() -> dict:
    """What the figures depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), model)
    loaded = library_cpu.load()
    return {
        "commit": commit,
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "float_lanes": loaded.float_lanes if loaded else None,
        "load_average": os.getloadavg(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def print_table(title: str, rows: list[dict]) -> None:
    """Columns are the keys; seconds are shown as milliseconds and bytes as MB."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_shown(column, row.get(column)) for column in columns] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(columns, *cells, strict=True)]
    print(f"\n{title}")
    for line in [columns, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _shown(column: str, value: object) -> str:
    if value is None:
        return ""
    if column == "bytes":
        return f"{value / 1e6:.0f} MB"  # type: ignore[operator]
    if isinstance(value, float):
        is_time = column in (*ROWS, "seconds", "least", "1 thread", "2 threads") or (
            column in ("must", "aim") and value < 0.5
        )
        return f"{1e3 * value:.2f} ms" if is_time else f"{value:.2f}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/native.json"))
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="only a few sizes, few repetitions")
    options = parser.parse_args()
    if not native_backend.is_available():
        raise SystemExit("The native backend cannot be built here.")
    repetitions = 3 if options.quick else options.repetitions
    results: dict[str, Any] = {
        "machine": machine(),
        "compile_seconds": compile_seconds(),
        "main": main_table(repetitions),
    }
    results |= {"threads": thread_table(repetitions), "limits": limits_table(repetitions)}
    results |= {"scaling": scaling_table(repetitions, options.quick)}
    print(", ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    print(f"first-use compilation: {results['compile_seconds']:.1f} s")
    print_table("131,072 pixel-aligned Gaussians, one 256 x 256 camera, float32", results["main"])
    print_table("Threads", results["threads"])
    print_table("Shares of what this machine can do (SH degree 0)", results["limits"])
    print_table("Scaling (SH degree 0)", results["scaling"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2))
    print(f"\nwritten to {options.output}")


if __name__ == "__main__":
    main()
