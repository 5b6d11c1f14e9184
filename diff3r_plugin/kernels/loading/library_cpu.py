"""The compiled CPU kernels as Python objects: ctypes signatures, and the one place that decides whether they exist."""

from __future__ import annotations

import ctypes
import functools
import math
import warnings
import weakref
from ctypes import POINTER, Structure, c_char, c_char_p, c_double, c_int32, c_int64, c_void_p
from typing import Any

import torch

from diff3r_plugin import memory
from diff3r_plugin.kernels.loading.build_cpu import BuildError, library_path
from diff3r_plugin.kernels.loading.structures import Chart, Inputs, Vector

OK, OUT_OF_MEMORY, TOO_MANY_INTERSECTIONS, FAILED = 0, 1, 2, 3
"""Statuses that every kernel returns (``api.h``)."""

MOST_KEPT = 4 << 30
"""Bytes of released memory that may wait to be used again, and no more than a quarter of what there is."""

_RECYCLED_FROM = 2**21
"""Bytes from which on results are put into recycled memory."""

CONSTANT_NAMES = (
    "ALPHA_CAP",
    "ALPHA_SKIP",
    "TRANSMITTANCE_STOP",
    "FRUSTUM_MARGIN",
    "COLOR_OFFSET",
)


class Scene(Structure):
    """``Diff3rScene``: inputs, and how many tile list entries fit into memory."""

    _fields_ = (("inputs", Inputs), ("max_intersections", c_int64))


class Systems(Structure):
    """``Diff3rSystems``: B systems of P unknowns."""

    _fields_ = (("systems", c_int64), ("unknowns", c_int64))


class Counts(Structure):
    """``Diff3rCounts``: what became of the Gaussians."""

    _fields_ = tuple((name, c_int64) for name in ("visible", "degenerate", "intersections", "bytes", "registers"))


class Kernels:
    """The kernels of one floating-point type."""

    def __init__(self, library: ctypes.CDLL, suffix: str) -> None:
        def function(name: str, *arguments: type, result: type | None = c_int32) -> Any:
            f = getattr(library, f"diff3r_{name}_{suffix}")
            f.argtypes, f.restype = arguments, result
            if result is c_int32:
                f.errcheck = functools.partial(_refuse_failure, library)
            return f

        vector = POINTER(Vector)
        self.linearize = function("linearize", POINTER(Scene), c_int32, c_void_p, POINTER(Counts), POINTER(c_void_p))
        self.jvp = function("jvp", c_void_p, c_int32, vector, c_void_p)
        self.vjp = function("vjp", c_void_p, c_int32, c_void_p, vector)
        self.gauss_newton = function("gauss_newton", c_void_p, c_int32, vector, c_void_p, vector)
        self.gram = function("gram", c_void_p, c_int32, c_void_p, c_void_p, c_void_p)
        chart = POINTER(Chart)
        self.chart_decode = function("chart_decode", POINTER(Inputs), c_int32, chart, vector)
        self.chart_jvp = function("chart_jvp", c_void_p, c_int32, chart, *[c_void_p] * 3)
        self.chart_vjp = function("chart_vjp", c_void_p, c_int32, chart, *[c_void_p] * 5)
        self.chart_gauss_newton = function("chart_gauss_newton", c_void_p, c_int32, chart, *[c_void_p] * 6)
        self.chart_gram_diagonal = function("chart_gram_diagonal", c_void_p, c_int32, chart, *[c_void_p] * 2)
        systems = POINTER(Systems)
        self.advance = function("advance", systems, c_int32, *[c_void_p] * 6)
        self.measure = function("measure", systems, c_int32, *[c_void_p] * 3)
        self.step = function("step", systems, c_int32, *[c_void_p] * 3)
        self.follow = function("follow", systems, c_int32, *[c_void_p] * 6)
        self.restore = function("restore", systems, c_int32, *[c_void_p] * 3)
        self.inverse_sum = function("inverse_sum", systems, c_int32, *[c_void_p] * 3)
        self.products = function("products", systems, c_int32, *[c_void_p] * 4)
        self.free = function("free", c_void_p, result=None)


def _refuse_failure(library: ctypes.CDLL, status: int, function: Any, arguments: Any) -> int:
    """Raise what is no answer of a kernel but an accident in it; other statuses are their caller's to judge."""
    if status == FAILED:
        raise RuntimeError(f"the CPU kernel {function.__name__} failed: {library.diff3r_failure().decode()}")
    return status


class Library:
    """All kernels, and what they were built with."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        library.diff3r_failure.restype = c_char_p
        library.diff3r_keep_at_most.argtypes, library.diff3r_keep_at_most.restype = (c_int64,), None
        library.diff3r_free_waiting.argtypes, library.diff3r_free_waiting.restype = (), c_int64
        library.diff3r_keep_at_most(min(MOST_KEPT, memory.limit_bytes() // 4))
        self.free_waiting = library.diff3r_free_waiting
        self.path = path
        self.by_dtype = {torch.float32: Kernels(library, "f32"), torch.float64: Kernels(library, "f64")}
        library.diff3r_constants.argtypes = (POINTER(c_double), c_int32)
        library.diff3r_constants.restype = c_int32
        values = (c_double * len(CONSTANT_NAMES))()
        count = library.diff3r_constants(values, len(values))
        self.constants = dict(zip(CONSTANT_NAMES, list(values)[:count], strict=True))
        self.float_lanes = int(library.diff3r_float_lanes())
        self._acquire, self._release = library.diff3r_acquire, library.diff3r_release
        self._acquire.argtypes, self._acquire.restype = (c_int64,), c_void_p
        self._release.argtypes, self._release.restype = (c_void_p, c_int64), None

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialized tensor; a large one is memory that the kernels have used before.

        The operating system clears fresh memory page by page, which for tens of megabytes takes longer than the
        kernel that then writes them.
        """
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size < _RECYCLED_FROM:
            return torch.empty(shape, dtype=dtype)
        block = self._acquire(size)
        if block is None:
            raise MemoryError(f"not enough memory for a tensor of shape {list(shape)}, {size / 2**30:.1f} GiB.")
        array = (c_char * size).from_address(block)
        weakref.finalize(array, self._release, block, size).atexit = False
        return torch.frombuffer(array, dtype=dtype, count=count).view(shape)


_failure: str | None = None


@functools.lru_cache(maxsize=1)
def load() -> Library | None:
    """The kernels, compiled first if need be; None (after one warning) where that is impossible.

    Example:
        >>> from diff3r_plugin.kernels.loading import library_cpu
        >>> kernels = library_cpu.load()
        >>> kernels is None or kernels.float_lanes >= 4
        True
    """
    global _failure
    try:
        return Library(str(library_path()))
    except (BuildError, OSError, AttributeError) as error:
        _failure = str(error)
        warnings.warn(
            f"diff3r's CPU kernels are not available, rendering falls back to the slow 'torch' backend: {_failure}\n"
            "Install a C++17 compiler (g++ >= 9 or clang++ >= 10), or name one in $DIFF3R_CXX, and start again.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def loaded() -> Library | None:
    """The kernels if :func:`load` has given them already; compiles nothing."""
    return load() if load.cache_info().currsize else None


def failure() -> str | None:
    """Why :func:`load` gave None."""
    return _failure


def release_memory() -> int:
    """Give back what the kernels keep for their next call: large blocks on a CPU, PyTorch's cache on a GPU.

    Returns:
        Bytes that were given back on the CPU. Nothing is lost but time: the next refinement asks the operating system
        for fresh memory.

    Example:
        >>> from diff3r_plugin import release_memory
        >>> _ = release_memory()
        >>> release_memory()
        0
    """
    library = loaded()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return 0 if library is None else int(library.free_waiting())
