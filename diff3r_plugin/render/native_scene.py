"""A scene as the CPU kernels read it, rendered by them."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.memory import limit_bytes
from diff3r_plugin.render.kernel_inputs import KernelInputs
from diff3r_plugin.views import Views

_BYTES_PER_INTERSECTION = 52
"""Two list entries of four bytes, and nine floats of gradient while a product is computed."""

_LESS = "Render fewer scenes or views at once, or smaller images"


class NativeScene(KernelInputs):
    """Contiguous inputs of one dtype, and the C structure that points at them."""

    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        loaded = library_cpu.load()
        if loaded is None:
            raise RuntimeError(f"the 'native' backend is not available: {library_cpu.failure()}")
        dtype = gaussians.dtype if gaussians.dtype == torch.float64 else torch.float32
        super().__init__(gaussians, views, dtype, "cpu")
        if self.gaussians >= 2**31:
            raise ValueError(f"{self.gaussians} Gaussians in one scene; the kernels count up to {2**31 - 1}.")
        self.empty = loaded.empty
        self.kernels = loaded.by_dtype[self.dtype]
        self.structure = library_cpu.Scene(self.structure_of_inputs(), memory_limit() // _BYTES_PER_INTERSECTION)

    def render(self, keep: bool) -> tuple[Tensor, library_cpu.Counts, ctypes.c_void_p]:
        image = torch.empty(self.image_shape, dtype=self.dtype)
        counts, handle = library_cpu.Counts(), ctypes.c_void_p()
        status = self.kernels.linearize(
            self.structure, torch.get_num_threads(), image.data_ptr(), counts, handle if keep else None
        )
        if status == library_cpu.TOO_MANY_INTERSECTIONS:
            needed = counts.intersections * _BYTES_PER_INTERSECTION / 2**30
            raise MemoryError(
                f"{self} cover {counts.intersections} tiles of 16 x 16 pixels in all, which takes {needed:.1f} GiB; at "
                f"most {self.structure.max_intersections} tiles fit into memory. {_LESS}, or remove Gaussians that "
                "cover whole images."
            )
        self.check(status)
        return image, counts, handle

    def check(self, status: int) -> None:
        if status != library_cpu.OK:
            raise MemoryError(f"not enough memory for {self}. {_LESS}.")


@functools.lru_cache(maxsize=1)
def memory_limit() -> int:
    """Bytes that tile lists and gradients may take: half of what this process can have."""
    return limit_bytes() // 2
