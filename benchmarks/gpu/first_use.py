"""Part 0: the machine and the first use. ``python -m benchmarks.gpu.first_use --out FILE --seconds S [--cpu]``.

gsplat compiles itself when it is first used (minutes), our kernels too (seconds): later parts must not pay for that.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
import warnings
from typing import Any

import torch

from benchmarks.gpu.record import Record, recorded
from benchmarks.gpu.scenes import float32_scene, float32_tangent
from benchmarks.gpu.subject import tested_on
from benchmarks.gpu.timing import synchronize
from benchmarks.native import machine

PACKAGES = ("torch", "gsplat", "einops", "jaxtyping", "pluggy", "lightning", "numpy")


def versions() -> dict[str, str | None]:
    """Of the packages that take part; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["torch"] = torch.__version__  # with the local part that names the CUDA build
    found["cuda_runtime"] = torch.version.cuda
    found["nvcc"] = _from_output(["nvcc", "--version"], r"release ([\d.]+)")
    return found


def device_facts(device: torch.device) -> dict[str, Any]:
    """Name, capability, memory and driver of a GPU; the processor for a CPU."""
    if device.type != "cuda":
        facts = machine()
        return {
            "name": facts["processor"],
            "type": "cpu",
            **{k: facts[k] for k in ("cores", "threads", "load_average")},
        }
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "type": "cuda",
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "devices": torch.cuda.device_count(),
        "driver": _from_output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], r"([\d.]+)"),
        "compiled_for": os.environ.get("TORCH_CUDA_ARCH_LIST"),
        "cpu_cores": os.cpu_count(),
    }


def _from_output(command: list[str], pattern: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(pattern, text)
    return found.group(1) if found else None


def gsplat_seconds(device: torch.device) -> float:
    """Time of gsplat's first rendering, its compilation included.

    Raises:
        RuntimeError: if it cannot be imported or built, with what to do.
    """
    started = time.perf_counter()
    try:
        from gsplat import rasterization

        means, quats = torch.tensor([[0.0, 0, 3]], device=device), torch.tensor([[1.0, 0, 0, 0]], device=device)
        ones = torch.ones(1, 3, device=device)
        camera = torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]], device=device)
        pose = torch.eye(4, device=device)[None]
        image = rasterization(means, quats, 0.1 * ones, ones[:, 0], ones, pose, camera, 16, 16)[0]
        synchronize(device)
    except Exception as error:
        raise RuntimeError(
            f"gsplat cannot be used: {type(error).__name__}: {error}. It needs `pip install gsplat`, a CUDA build of "
            "PyTorch, and nvcc of the same CUDA release on the PATH (CUDA_HOME) to compile itself."
        ) from error
    if not bool(image.isfinite().all() and image.max() > 0):
        raise RuntimeError("gsplat was built, but its rendering of one Gaussian is black or not finite.")
    return time.perf_counter() - started


def first_products(record: Record, cpu: bool) -> None:
    """Our backend's first linearization and products, which compile its kernels; warnings are put on record."""
    tested = tested_on(cpu)
    scene, views = float32_scene()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            lin = tested.linearize(scene, views)
        except ValueError as error:  # the backend counts as unavailable; the warning before that says why
            raise RuntimeError("\n".join([str(error), *(str(w.message) for w in caught)])) from error
        tangent = tested.put(float32_tangent(scene))
        weights = torch.ones_like(lin.image[:, :, 0])
        lin.jvp(tangent), lin.vjp(lin.image), lin.gauss_newton_product(tangent, weights), lin.gram(weights)
        synchronize(tested.device)
    record.put("backend_seconds", time.perf_counter() - started)
    record.put("warnings", [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)])


def main() -> None:
    with recorded("first_use", __doc__) as (record, _, options):
        record.put("versions", versions())
        if not options.cpu and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no CUDA device; --cpu makes a dry run of everything on the CPU.")
        device = tested_on(options.cpu).device
        record.put("device", device_facts(device))
        if not options.cpu:
            try:
                record.put("gsplat_seconds", gsplat_seconds(device))
            except RuntimeError as error:  # our kernels do without; the rows that are gsplat's own are lost
                record.put("gsplat_failed", str(error))
                os.environ["DIFF3R_WITHOUT_GSPLAT"] = "1"  # nobody shall try again, for minutes
        first_products(record, options.cpu)


if __name__ == "__main__":
    main()
