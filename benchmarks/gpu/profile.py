"""Part 5: where the time goes. ``python -m benchmarks.gpu.profile --out FILE --seconds S [--cpu]``.

Of each row: device time by kernel (torch.profiler), and how long the host is busy for it. Of each of our kernels:
registers, stack and shared memory, as ptxas tells. Of a tiny scene: what compute-sanitizer and ncu say, if they work.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.record import TRUNCATED, Budget, Record, recorded
from benchmarks.gpu.subject import Subject, tested_on
from benchmarks.gpu.timing import seconds, synchronize, wake
from benchmarks.gpu.workloads import Size, Workload
from diff3r_plugin.kernels.loading import build_cuda, modules_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.kernel_table import BASES, units

ROWS: dict[str, Callable[[Workload], object]] = {
    "linearize the energy": lambda w: w.objective.objective.linearize(w.objective.theta),
    "the same, with a preconditioner": lambda w: w.objective.objective.linearize(w.objective.theta).preconditioner(
        "jacobi"
    ),
    "jvp": lambda w: w.lin.jvp(w.tangent),
    "product": lambda w: w.lin.gauss_newton_product(w.tangent, w.weights),
    "product in θ": lambda w: w.objective.gauss_newton_product(w.direction),
    "implicit backward": Workload.implicit_backward,
}
SIZES = (Size(256, (256, 256), 2, 1, 0), Size(256, (256, 256), 2, 1, 3), Size(512, (512, 960), 4, 1, 3))
DRY_RUN = (Size(16, (16, 16), 2, 1, 1),)
CALLS = 5
"""Calls of a row that are profiled."""

TOOLS: dict[str, tuple[str, ...]] = {
    "compute-sanitizer memcheck": ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"),
    "compute-sanitizer racecheck": ("compute-sanitizer", "--tool", "racecheck", "--error-exitcode", "9"),
    "ncu": ("ncu", "--set", "basic", "--kernel-name", "regex:diff3r|jvp|product|gram|splat", "--launch-count", "24"),
}
TOOL_SECONDS = 60.0


def kernel_split(call: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """Device time (on a CPU: the processor's) and launches by kernel of one call, the longest first."""
    on_gpu = device.type == "cuda"
    call()
    synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        for _ in range(CALLS):
            call()
        synchronize(device)
    entries = []
    for event in profiled.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if spent > 0:
            entries.append({"kernel": event.key[:120], "seconds": spent / 1e6 / CALLS, "launches": event.count / CALLS})
    return sorted(entries, key=lambda entry: -entry["seconds"])


def host_seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long the host is busy queueing one call: the time until it could do something else."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    spent = (time.perf_counter() - started) / CALLS
    synchronize(device)
    return spent


def profile_rows(record: Record, budget: Budget, tested: Subject, sizes: tuple[Size, ...]) -> None:
    """All rows of all sizes; an error in one is on record, and the others go on."""
    for size in sizes:
        work = Workload(size, tested.backend, tested.device)
        for name, row in ROWS.items():
            if budget.left <= 0:
                record.add("not_run", {"size": str(size), "row": name, "reason": "no time left"})
                continue
            try:
                call = lambda row=row, work=work: row(work)  # noqa: E731
                split = kernel_split(call, tested.device)
                entry = {
                    "seconds": seconds(call, tested.device, repetitions=5, budget=0.3),
                    "host_seconds": host_seconds(call, tested.device),
                    "kernel_seconds": sum(e["seconds"] for e in split),
                    "kernels": split[:12],
                }
                record.add("rows", {"size": str(size), "row": name, **entry})
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                record.add("not_run", {"size": str(size), "row": name, "reason": reason})


def resources(architecture: str, sources: list[Path]) -> Iterator[dict[str, Any]]:
    """Registers, stack, spills and shared memory of every kernel, by compiling once more with ptxas' own report.

    Raises:
        BuildError: without nvcc, or if it fails.
    """
    jobs = [(s, bases) for s in sources for bases in (BASES if s.stem in units(of_bases=True) else (0,))]

    def report(job: tuple[Path, int]) -> str:
        source, bases = job
        flags = [*build_cuda.Nvcc.flags(bases, architecture), "-Xptxas", "-v"]
        command = [*build_cuda.nvcc(), *flags, "-cubin", str(source), "-o", os.devnull]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{source.name}: {done.stderr.strip().splitlines()[-1]}")
        return done.stderr + done.stdout

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for (source, bases), text in zip(jobs, pool.map(report, jobs), strict=True):
            for entry in read_resources(text):
                yield {"source": source.name, "bases": bases, **entry}


def read_resources(text: str) -> Iterator[dict[str, Any]]:
    """The kernels in ptxas' report."""
    for part in text.split("Compiling entry function ")[1:]:
        name = re.match(r"'([^']*)'", part)
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        used = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        if name and stack and used:
            yield {
                "kernel": name.group(1),
                "registers": int(used.group(1)),
                "stack_bytes": int(stack.group(1)),
                "spilled_bytes": int(stack.group(2)) + int(stack.group(3)),
                "shared_bytes": int(shared.group(1)) if shared else 0,
            }


def tool(name: str, command: tuple[str, ...], limit: float) -> dict[str, Any]:
    """What one of NVIDIA's tools says of the tiny scene; its status is None where it is not there or took too long."""
    if shutil.which(command[0]) is None:
        return {"tool": name, "status": None, "output": [f"{command[0]} is not installed"]}
    run = [*command, sys.executable, "-m", "benchmarks.gpu.tiny"]
    try:
        done = subprocess.run(run, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"tool": name, "status": None, "output": [f"took more than {limit:.0f} s"]}
    return {"tool": name, "status": done.returncode, "output": (done.stdout + done.stderr).splitlines()[-120:]}


def main() -> None:
    with recorded("profile", __doc__) as (record, budget, options):
        tested = tested_on(options.cpu)
        wake(tested.device)
        profile_rows(record, budget, tested, DRY_RUN if options.cpu else SIZES)
        if not options.cpu:
            major, minor = torch.cuda.get_device_capability(tested.device)
            record.put("resources", list(resources(f"sm_{major}{minor}", modules_cuda.sources())))
            for name, command in TOOLS.items():
                if budget.left > 0:
                    record.add("tools", tool(name, command, min(budget.left, TOOL_SECONDS)))
        if any(entry["reason"] == "no time left" for entry in record.content.get("not_run", ())):
            record.end(TRUNCATED, "no time left for the rows under not_run")


if __name__ == "__main__":
    main()
