"""The GPU backend on PTX: modules from the compiler of this machine, run by :class:`ptx_on_cpu.driver.PtxDriver`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import gsplat_on_cpu
import torch

from diff3r_plugin.kernels.loading import build_cuda, build_nvrtc, cache, modules_cuda
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer, without_gsplat
from ptx_on_cpu import machine
from ptx_on_cpu.arrays import Arrays
from ptx_on_cpu.driver import PtxDriver

TARGET = "compute_80"


def missing() -> str | None:
    """Why nothing can run here; None if it can."""
    if machine.library() is None:
        return "no g++ here to compile the machine that runs PTX"
    compilers, reasons = modules_cuda.compilers()
    return None if compilers else f"no CUDA compiler here: {reasons}"


@functools.cache
def image(unit: str, bases: int) -> bytes:
    """A unit's PTX, from the cache of compiled files where it has been made."""
    compiler = modules_cuda.compilers()[0][0]
    digest = hashlib.sha256(repr((compiler.key, unit, bases, TARGET)).encode())
    for path in modules_cuda.sources_and_headers():
        digest.update(path.read_bytes())
    source = next(path for path in modules_cuda.sources() if path.stem == unit)

    def make(target: Path) -> None:
        compiler.compile(source, bases, TARGET, target)

    return cache.provide(f"diff3r_{unit}_{digest.hexdigest()[:16]}.ptx", make).read_bytes()


def compiled(folder: Path, unit: str, bases: int) -> bytes:
    """A unit's PTX from sources elsewhere, a copy of the kernels in ``folder``."""
    output = folder / f"{unit}.ptx"
    here = build_cuda.SOURCE_DIRECTORY
    try:
        build_cuda.SOURCE_DIRECTORY = build_nvrtc.SOURCE_DIRECTORY = folder
        modules_cuda.compilers()[0][0].compile(folder / "cuda" / f"{unit}.cu", bases, TARGET, output)
    finally:
        build_cuda.SOURCE_DIRECTORY = build_nvrtc.SOURCE_DIRECTORY = here
    return output.read_bytes()


@contextmanager
def running(
    seed: int = 0, checked: bool = True, images: Callable[[str, int], bytes] = image
) -> Iterator[tuple[PtxDriver, Rasterizer]]:
    """Our kernels without gsplat, in float32, as long as this lasts.

    Args:
        seed: Of the order in which everything runs.
        checked: As for :class:`PtxDriver`.
        images: Gives PTX by unit and number of basis functions.
    """
    with Arrays().watched() as arrays:
        driver = PtxDriver(arrays, seed, checked)
        kernels = CudaKernels(driver, images)  # type: ignore[arg-type]
        yield driver, without_gsplat(kernels, dtype=torch.float32, device="cpu", stream=lambda device: 0)


def backend(rasterizer: Rasterizer) -> SimpleNamespace:
    """As renderer and linearization in θ know backends."""
    return gsplat_on_cpu.backend(lambda dtype: rasterizer)
