"""The compiled GPU kernels as Python objects: ctypes signatures, one library for each compute capability."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_void_p

import torch

from diff3r_plugin.kernels.loading.build_cuda import library_path
from diff3r_plugin.kernels.loading.structures import Chart, Inputs, Vector

SPLATS = ("means2d", "conics", "colors", "splat_opacities", "depths", "reaches", "radii", "flags")

COTANGENTS, MOMENTS = 0, 1
"""What arrives of each splat at ``splat_vjp`` (``cuda/splat_vjp.cu``)."""


class Queue(Structure):
    """``Diff3rQueue``: where work is queued."""

    _fields_ = (("stream", c_void_p), ("device", c_int64))


class Systems(Structure):
    """``Diff3rSystems``: B systems of P unknowns, and where work on them is queued."""

    _fields_ = (("systems", c_int64), ("unknowns", c_int64), ("stream", c_void_p), ("device", c_int64))


class DeviceScene(Structure):
    """``Diff3rDeviceScene``: sizes, a stream, and pointers to contiguous tensors on its device."""

    _fields_ = (
        ("inputs", Inputs),
        ("alpha_cap", c_double),
        ("stream", c_void_p),
        ("device", c_int64),
        *((name, c_void_p) for name in SPLATS),
        ("tile_offsets", c_void_p),
        ("flatten_ids", c_void_p),
        ("intersections", c_int64),
    )


class CudaKernels:
    """The kernels of one floating-point type; each queues its work and returns a CUDA error code.

    Args:
        library: The loaded library.
        suffix: "f32", the only one that is compiled for devices.
    """

    def __init__(self, library: ctypes.CDLL, suffix: str = "f32") -> None:
        def function(name: str, *arguments: type, of: type = DeviceScene):
            f = getattr(library, f"diff3r_cuda_{name}_{suffix}")
            f.argtypes, f.restype = (POINTER(of), *arguments), c_int32
            return f

        vector = POINTER(Vector)
        self.project = function("project")
        self.splat_jvp = function("splat_jvp", vector, c_void_p)
        self.splat_vjp = function("splat_vjp", c_void_p, c_int32, vector, c_void_p)
        self.splat_gram = function("splat_gram", c_void_p, c_void_p, c_void_p)
        self.rasterize = function("rasterize", c_void_p)
        self.rasterize_vjp = function("rasterize_vjp", c_void_p, c_void_p)
        self.rasterize_jvp = function("rasterize_jvp", c_void_p, c_void_p)
        self.rasterize_product = function("rasterize_product", c_void_p, c_void_p, c_void_p)
        self.rasterize_gram = function("rasterize_gram", c_void_p, c_void_p)
        chart = POINTER(Chart)
        self.chart_decode = function("chart_decode", POINTER(Queue), chart, vector, of=Inputs)
        self.chart_splat_jvp = function("chart_splat_jvp", chart, *[c_void_p] * 3)
        self.chart_splat_vjp = function("chart_splat_vjp", c_void_p, c_int32, chart, *[c_void_p] * 5)
        self.mean_moves = function("mean_moves", c_void_p)
        self.rasterize_gram_diagonal = function("rasterize_gram_diagonal", *[c_void_p] * 3)
        self.chart_gram_diagonal = function("chart_gram_diagonal", chart, *[c_void_p] * 2)
        self.advance = function("advance", *[c_void_p] * 6, of=Systems)
        self.measure = function("measure", *[c_void_p] * 3, of=Systems)
        self.step = function("step", *[c_void_p] * 3, of=Systems)
        self.follow = function("follow", *[c_void_p] * 6, of=Systems)
        self.restore = function("restore", *[c_void_p] * 3, of=Systems)
        self.products = function("products", *[c_void_p] * 4, of=Systems)
        self._describe = library.diff3r_cuda_error
        self._describe.argtypes, self._describe.restype = (c_int32,), c_char_p

    def check(self, code: int) -> None:
        """Raise what a kernel's error code means.

        Raises:
            RuntimeError: for any code but 0.
        """
        if code:
            raise RuntimeError(f"a GPU kernel of diff3r could not start: {self._describe(code).decode()} ({code}).")


@functools.cache
def load(capability: tuple[int, int]) -> CudaKernels:
    """The kernels for GPUs of this compute capability, compiled first if need be.

    Raises:
        BuildError: if they cannot be compiled.
        OSError: if the compiled library cannot be loaded.
    """
    return CudaKernels(ctypes.CDLL(str(library_path(capability))))


def stream_of(device: torch.device) -> int:
    """The handle of PyTorch's current stream on a device."""
    return torch.cuda.current_stream(device).cuda_stream
