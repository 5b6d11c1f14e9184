"""Time and memory of calls, by device events on a GPU and by the process's own counters on a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.native import peak_memory

WARM_UP = 2
"""Calls before the first that counts: allocations, lazily loaded kernels, clocks."""

LEAST = 3
"""Calls that count, unless they take very long."""


def wake(device: torch.device, seconds: float = 1.0) -> None:
    """Keep a GPU busy until its clocks are up: idle ones are a sixth of those under load."""
    if device.type != "cuda":
        return
    matrix = torch.rand(4096, 4096, device=device)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        torch.mm(matrix, matrix)
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, *, repetitions: int = 11, budget: float = 1.0) -> float:
    """Median time of a call, s; see :func:`timed`."""
    return timed(call, device, repetitions=repetitions, budget=budget)[0]


def timed(
    call: Callable[[], object], device: torch.device, *, repetitions: int = 11, budget: float = 1.0
) -> tuple[float, int]:
    """Median time of a call, s, and how many calls it is the median of.

    On a GPU the time between two events on the current stream: idle gaps in which the device waits for the host
    count, as they do in use. There are fewer repetitions once ``budget`` seconds are spent (but ``LEAST``, as long as
    they stay within three budgets).
    """
    started = time.perf_counter()
    for _ in range(WARM_UP):
        call()
        synchronize(device)
        if time.perf_counter() - started > budget:
            break
    times: list[float] = []
    while not times or (len(times) < repetitions and sum(times) < (budget if len(times) >= LEAST else 3 * budget)):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory grows at most while a call runs; None where that cannot be told (a CPU, no Linux).

    On a GPU what PyTorch's allocator handed out (scratch that a kernel library allocates past it is not seen); on a
    CPU the resident set of the process, which is coarse.
    """
    if device.type != "cuda":
        return peak_memory(call)
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def synchronize(device: torch.device) -> None:
    """Wait for everything on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in whichever class it comes."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
