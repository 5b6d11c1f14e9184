"""Part 2: the table of times. ``python -m benchmarks.gpu.figures --out FILE --seconds S [--cpu]``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.gpu.record import FAILED, TRUNCATED, Budget, Record, recorded
from benchmarks.gpu.subject import tested_on
from benchmarks.gpu.timing import out_of_memory, timed, wake
from benchmarks.gpu.work import COUNTING, achievable, bytes_moved, count_pairs, flops
from benchmarks.gpu.workloads import DRY_RUN, PCG_ITERATIONS, ROWS, TABLE, Size, Workload, library_calls
from diff3r_plugin.info import TTOInfo

RATIOS: dict[str, tuple[Callable[[dict[str, float]], float], float | None, float | None]] = {
    "jvp / forward": (lambda t: t["jvp"] / t["forward"], 1.7, 1.1),
    "product / (forward + backward)": (lambda t: t["product"] / t["forward + backward"], 1.0, 0.6),
    "gram / backward": (lambda t: t["gram"] / t["backward"], 3.0, 1.5),
    "implicit backward, products": (lambda t: t["implicit backward"] / t["product in θ"], 10.0, 9.0),
    # gsplat's own renderings, without this package in between; not judged, so that the targets have one meaning
    "jvp / gsplat.rasterization forward": (lambda t: t["jvp"] / t["gsplat.rasterization forward"], None, None),
    "product / gsplat.rasterization forward + backward": (
        lambda t: t["product"] / t["gsplat.rasterization forward + backward"],
        None,
        None,
    ),
}
"""Ratio, most it must be, and what it aims at."""

BATCH_RATIOS: dict[str, tuple[float | None, float | None]] = {
    "implicit step": (0.5, None),
    "forward": (None, None),
    "product": (None, None),
    "implicit backward": (None, None),
}
"""Rows of which a batch is compared with as many scenes one by one: most it must be, and what it aims at."""

HOT_KERNELS = ("jvp", "product")
RESERVE = 2.0
"""Seconds that must be left to begin with another row."""


def verdict(value: float | None, must: float | None, aim: float | None, judged: bool) -> str:
    """``aim``, ``pass`` or ``miss``; ``recorded`` where there is no target, ``not judged`` in a dry run."""
    if must is None:
        return "recorded"
    if not judged:
        return "not judged"
    if value is None or not value <= must:  # a NaN is a miss
        return "miss"
    return "aim" if aim is not None and value <= aim else "pass"


def figure(name: str, size: object, value: float | None, limits: tuple, judged: bool, **more: Any) -> dict[str, Any]:
    """One line of the table of figures."""
    must, aim = limits
    entry = {"figure": name, "size": str(size), "value": value, "must": must, "aim": aim}
    return {**entry, "verdict": verdict(value, must, aim, judged), **more}


def measure(
    record: Record,
    budget: Budget,
    sizes: Sequence[Size],
    backend: str,
    device: torch.device,
    *,
    row_seconds: float,
) -> dict[Size, dict[str, float]]:
    """Time all rows of all sizes, as far as time and memory go; returns the medians in seconds."""
    judged = device.type == "cuda"
    times: dict[Size, dict[str, float]] = {}
    rates: dict[str, float] | None = None
    wake(device)
    for size in sizes:
        if budget.left < RESERVE:
            record.add("not_run", {"size": str(size), "row": "all", "reason": "no time left"})
            continue
        times[size] = {}
        started = time.monotonic()
        try:
            work = Workload(size, backend, device)
            _rows(record, budget, work, times[size], row_seconds)
            _ratios(record, size, times, judged)
            if size.batch == 1 and budget.left > RESERVE:
                rates = rates or _rates(record, device)
                _shares(record, work, times[size], rates)
        except Exception as error:
            _not_run(record, size, "the rest", error)
        work = None  # type: ignore[assignment]  # its memory is needed for the next size
        if judged:
            torch.cuda.empty_cache()
        record.add("seconds_per_size", {"size": str(size), "seconds": time.monotonic() - started})
    if errors := record.content.get("errors"):
        record.end(FAILED, f"{len(errors)} rows failed; the first: {errors[0]}")
    elif any(entry["reason"] == "no time left" for entry in record.content.get("not_run", ())):
        record.end(TRUNCATED, "no time left for the rows under not_run")
    return times


def _rows(record: Record, budget: Budget, work: Workload, times: dict[str, float], row_seconds: float) -> None:
    calls: dict[str, Callable[[], object]] = {name: lambda row=row: row(work) for name, row in ROWS.items()}  # type: ignore[misc]
    if work.device.type == "cuda":
        try:
            calls |= library_calls(work)
        except Exception as error:  # not there, or its compilation failed: its own rows are lost, and no others
            reason = f"{type(error).__name__}: {error}"
            record.add("not_run", {"size": str(work.size), "row": "gsplat.rasterization", "reason": reason})
    for name, call in calls.items():
        if budget.left < RESERVE:
            record.add("not_run", {"size": str(work.size), "row": name, "reason": "no time left"})
            continue
        try:
            times[name], repetitions = timed(call, work.device, budget=row_seconds)
        except Exception as error:
            _not_run(record, work.size, name, error)
            work.__dict__.pop("solved", None)
            if work.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        entry: dict[str, Any] = {
            "size": str(work.size),
            "row": name,
            "seconds": times[name],
            "repetitions": repetitions,
        }
        if name == "implicit backward":
            entry["pcg_iterations"] = _iterations(work.__dict__.pop("solved")[1])  # its graph is not needed any more
            if set(entry["pcg_iterations"]) - {PCG_ITERATIONS}:
                del times[name]  # a solve that ended early would look cheap
                reason = f"PCG ended early, iterations by scene: {entry['pcg_iterations']}"
                record.add("not_run", {"size": str(work.size), "row": "implicit backward, products", "reason": reason})
        record.add("times", entry)


def _not_run(record: Record, size: Size, row: str, error: Exception) -> None:
    """Put on record that a row did not run; an error, unless memory ran out or the row is the library's own.

    The library's own call is a reference only; versions without batch dimensions refuse it.
    """
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    record.add("not_run", {"size": str(size), "row": row, "reason": reason})
    if not out_of_memory(error) and not row.startswith("gsplat.rasterization"):
        record.put("errors", [*record.content.get("errors", ()), f"{row} ({size}): {reason}"])


def _iterations(info: object) -> list[int]:
    assert isinstance(info, TTOInfo) and info.backward is not None
    return info.backward.iterations.tolist()


def _ratios(record: Record, size: Size, times: dict[Size, dict[str, float]], judged: bool) -> None:
    own = times[size]
    for name, (ratio, must, aim) in RATIOS.items():
        try:
            value = ratio(own)
        except KeyError:  # one of its rows did not run; that is on record
            continue
        record.add("figures", figure(name, size, value, (must, aim), judged))
    single = times.get(Size(size.context, size.image, size.views, 1, size.degree), {})
    if size.batch > 1:
        for row, limits in BATCH_RATIOS.items():
            if row in own and row in single:
                name = f"batch / scenes one by one, {row}"
                value = own[row] / (size.batch * single[row])
                record.add("figures", figure(name, size, value, limits, judged))


def _rates(record: Record, device: torch.device) -> dict[str, float]:
    rates = achievable(device) if device.type == "cuda" else achievable(device, copied=2**24, side=256)
    record.put("achievable", rates)
    return rates


def _shares(record: Record, work: Workload, times: dict[str, float], rates: dict[str, float]) -> None:
    pairs = count_pairs(work.gaussians, work.views)
    for kernel in HOT_KERNELS:
        if kernel not in times:
            continue
        operations = flops(kernel, pairs)
        moved = bytes_moved(kernel, pairs, work.gaussians, work.views)
        record.add(
            "shares",
            {
                "size": str(work.size),
                "kernel": kernel,
                "listed": pairs.listed,
                "visited": pairs.visited,
                "blended": pairs.blended,
                "flops": operations,
                "bytes": moved,
                "share_of_arithmetic": operations / times[kernel] / rates["flops_per_second"],
                "share_of_bandwidth": moved / times[kernel] / rates["bytes_per_second"],
            },
        )


def main() -> None:
    with recorded("figures", __doc__) as (record, budget, options):
        tested = tested_on(options.cpu)
        record.put("pcg_iterations", PCG_ITERATIONS)
        record.put("counting", COUNTING)
        sizes = DRY_RUN if options.cpu else TABLE
        measure(record, budget, sizes, tested.backend, tested.device, row_seconds=0.05 if options.cpu else 0.35)


if __name__ == "__main__":
    main()
