"""The compiled CPU kernels as Python objects: ctypes signatures, and the one place that decides whether they exist."""

from __future__ import annotations

import ctypes
import functools
import math
import warnings
import weakref
from ctypes import Structure, c_char, c_double, c_int64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diff3r_plugin import memory
from diff3r_plugin.kernels.loading.build_cpu import BuildError, library_path
from diff3r_plugin.kernels.loading.c_header import functions_of_types, plain_functions
from diff3r_plugin.kernels.loading.structures import Chart, Inputs, Vector

HEADER = Path(__file__).resolve().parents[1] / "cpu" / "api.h"
"""Declares every kernel."""

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


STRUCTURES: dict[str, type[Structure]] = {
    "Diff3rScene": Scene,
    "Diff3rSystems": Systems,
    "Diff3rCounts": Counts,
    "Diff3rInputs": Inputs,
    "Diff3rVector": Vector,
    "Diff3rChart": Chart,
}
"""By their names in C."""


class Kernels:
    """The kernels of one floating-point type, each as an attribute by its name in ``api.h``."""

    def __init__(self, library: ctypes.CDLL, header: str, suffix: str) -> None:
        for name, signature in functions_of_types(header, STRUCTURES).items():
            function = signature.of(getattr(library, f"diff3r_{name}_{suffix}"))
            function.errcheck = functools.partial(_refuse_failure, library)
            setattr(self, name, function)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def _refuse_failure(library: ctypes.CDLL, status: int, function: Any, arguments: Any) -> int:
    """Raise what is no answer of a kernel but an accident in it; other statuses are their caller's to judge."""
    if status == FAILED:
        raise RuntimeError(f"the CPU kernel {function.__name__} failed: {library.diff3r_failure().decode()}")
    return status


class Library:
    """All kernels, and what they were built with."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        header = HEADER.read_text(encoding="utf-8")
        for name, signature in plain_functions(header, STRUCTURES).items():
            signature.of(getattr(library, f"diff3r_{name}"))
        library.diff3r_keep_at_most(min(MOST_KEPT, memory.limit_bytes() // 4))
        self.free_waiting = library.diff3r_free_waiting
        self.path = path
        self.by_dtype = {
            torch.float32: Kernels(library, header, "f32"),
            torch.float64: Kernels(library, header, "f64"),
        }
        values = (c_double * len(CONSTANT_NAMES))()
        count = library.diff3r_constants(values, len(values))
        self.constants = dict(zip(CONSTANT_NAMES, list(values)[:count], strict=True))
        self.float_lanes = int(library.diff3r_float_lanes())
        self._acquire, self._release = library.diff3r_acquire, library.diff3r_release

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
