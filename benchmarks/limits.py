"""What this machine can do at most, by bare loops compiled on the spot, and how much of it the products use."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from diff3r_plugin.kernels.loading.build_cpu import compiler
from diff3r_plugin.kernels.loading.library_cpu import load
from diff3r_plugin.render.native_backend import NativeLinearization

LOOPS = """
#include <cstdint>
typedef float Register __attribute__((vector_size(4 * LANES)));
extern "C" {
// Twelve independent chains of multiply-add: 24 LANES operations a round.
float arithmetic(int64_t rounds) {
    Register x[12], scale = Register{} + 0.999f, shift = Register{} + 0.001f;
    for (int i = 0; i < 12; ++i) x[i] = Register{} + float(i);
    for (int64_t r = 0; r < rounds; ++r)
        for (int i = 0; i < 12; ++i) x[i] = x[i] * scale + shift;
    float total = 0;
    for (int i = 0; i < 12; ++i) total += x[i][0];
    return total;
}
// Reads all of it once.
float reading(const float* data, int64_t count) {
    Register x[8] = {};
    for (int64_t i = 0; i + 8 * LANES <= count; i += 8 * LANES)
        for (int j = 0; j < 8; ++j) x[j] += *reinterpret_cast<const Register*>(data + i + j * LANES);
    float total = 0;
    for (int j = 0; j < 8; ++j) total += x[j][0];
    return total;
}
}
"""

PIXEL_OPERATIONS = {"jvp": 33, "product": 69, "gram": 104}
"""Floating-point operations for each splat and pixel, counted in ``kernels/cpu/tile_passes.h``, ``gram_pass.h`` and
what they call; a multiply-add is two, a division, a comparison and a selection one each."""

INTERSECTION_NUMBERS = {"jvp": 32, "product": 64 + 2 * 9, "gram": 16 + 2 * 34}
"""Numbers read and written for each splat of a tile: the splat (each pass), its tangent, its sums."""

GAUSSIAN_NUMBERS = {"jvp": 13 + 13 + 16, "product": 2 * 13 + 13 + 16, "gram": 13 + 169}
"""Numbers read and written for each Gaussian and view at SH degree 0: its own, tangents or results, its splat's."""


def _lanes() -> int:
    """Numbers in a vector register of this machine."""
    loaded = load()
    return loaded.float_lanes if loaded else 4


@cache
def _loops() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "loops.cpp").write_text(LOOPS, encoding="utf-8")
        flags = ["-O3", "-march=native", "-shared", "-fPIC", f"-DLANES={_lanes()}"]
        subprocess.run([*compiler(), *flags, "loops.cpp", "-o", "loops.so"], cwd=folder, check=True)
        library = ctypes.CDLL(f"{folder}/loops.so")
    library.arithmetic.argtypes, library.arithmetic.restype = [ctypes.c_int64], ctypes.c_float
    library.reading.argtypes, library.reading.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_float
    return library


def _fastest(call: Callable[[int], object], threads: int, turns: int = 5) -> float:
    """Least seconds in which so many threads all make the call."""
    with ThreadPoolExecutor(threads) as pool:
        best = float("inf")
        for _ in range(turns + 1):
            start = time.perf_counter()
            list(pool.map(call, range(threads)))
            best = min(best, time.perf_counter() - start)
    return best


def operations_per_second(threads: int) -> float:
    """Floating-point operations of registers full of float32, a multiply-add counted as two."""
    rounds, loops = 2_000_000, _loops()
    return threads * rounds * 24 * _lanes() / _fastest(lambda _: loops.arithmetic(rounds), threads)


def bytes_per_second(threads: int) -> float:
    """Reading memory that no cache holds."""
    count, loops = 64 << 20, _loops()
    arrays = [(ctypes.c_float * (count + 16))() for _ in range(threads)]
    starts = [(ctypes.addressof(array) + 63) // 64 * 64 for array in arrays]
    return threads * 4 * count / _fastest(lambda thread: loops.reading(starts[thread], count), threads)


def shares(lin: NativeLinearization, times: dict[str, float], threads: int) -> list[dict]:
    """For each product the share of the arithmetic and of the memory that the bare loops reach.

    Counted is what cannot be left out: operations of the passes over pixels alone, with every lane of a register, and
    each array once. So both are lower bounds.
    """
    lanes, arithmetic, memory = _lanes(), operations_per_second(threads), bytes_per_second(threads)
    rows = []
    for name, seconds in times.items():
        operations = lin.registers * lanes * PIXEL_OPERATIONS[name]
        numbers = lin.registers * lanes + lin.intersections * INTERSECTION_NUMBERS[name]
        numbers += lin.visible * GAUSSIAN_NUMBERS[name]
        rows.append(
            {
                "row": name,
                "threads": threads,
                "seconds": seconds,
                "GFLOP/s": operations / seconds / 1e9,
                "of arithmetic": operations / seconds / arithmetic,
                "GB/s": 4 * numbers / seconds / 1e9,
                "of memory": 4 * numbers / seconds / memory,
            }
        )
    return rows
