"""Part 3: memory against inner steps. ``python -m benchmarks.gpu.memory --out FILE --seconds S [--cpu]``.

Implicit differentiation must not remember the inner steps; unrolling has to. The first table is the tested backend
alone, at full size; the second compares the two on a scene small enough for the reference renderer, the only one that
can be differentiated twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from benchmarks.gpu.figures import figure
from benchmarks.gpu.record import TRUNCATED, Budget, Record, recorded
from benchmarks.gpu.subject import Subject, tested_on
from benchmarks.gpu.timing import out_of_memory, peak_bytes, synchronize
from benchmarks.scenes import predicted_room
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views

CONSTANT = 1.05
"""Largest over smallest peak that still counts as constant: an allocator rounds, and a step that is not accepted
computes a little less."""

UNROLLED = 1 / 20
"""Implicit over unrolled memory at 100 steps that the project aims at."""

WEIGHT = 0.1


def training_step(size: int, device: torch.device, **settings: Any) -> Callable[[], None]:
    """Refine a predicted room and go back through it, as a training step does; every step of the solver runs.

    Args:
        size: Height and width of the two context images, px; there are 2 · size² Gaussians.
        device: Where.
        settings: For :class:`TTOConfig`.
    """
    gaussians, views = _room(size)
    gaussians, views = gaussians.to(device), views.to(device)
    config = TTOConfig(stationarity_tolerance=0.0, stationarity_warning=None, **settings)

    def step() -> None:
        leaf = gaussians.map(lambda t: t.clone().requires_grad_())
        refined, _ = TTOLayer(config)(leaf, views, WEIGHT)
        sum(t.square().sum() for t in refined.tensors()).backward()

    return step


@lru_cache(maxsize=4)
def _room(size: int) -> tuple[Gaussians, Views]:
    return predicted_room(size)


def measured(step: Callable[[], None], device: torch.device) -> dict[str, Any]:
    """Peak memory and seconds of one step; of the memory alone where it runs out."""
    try:
        synchronize(device)
        started = time.perf_counter()
        peak = peak_bytes(step, device)
        return {"bytes": peak, "seconds": time.perf_counter() - started, "reason": None}
    except Exception as error:
        if not out_of_memory(error):
            raise
        return {"bytes": None, "seconds": None, "reason": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def against_steps(record: Record, budget: Budget, tested: Subject, size: int, counts: tuple[int, ...]) -> None:
    """Peak memory of an implicit training step for each number of inner steps."""
    judged, title = tested.device.type == "cuda", f"{2 * size**2:,} Gaussians, {size}x{size} x 2, SH 1"
    peaks: dict[int, int] = {}
    # The first call of a process also pays for compiled kernels and libraries' workspaces.
    training_step(size, tested.device, backend=tested.backend, inner_steps=1)()
    for count in counts:
        if budget.left <= 0:
            record.add("not_run", {"size": title, "row": f"implicit, {count} steps", "reason": "no time left"})
            continue
        step = training_step(size, tested.device, backend=tested.backend, inner_steps=count)
        entry = measured(step, tested.device)
        record.add("implicit", {"size": title, "inner_steps": count, **entry})
        if entry["bytes"]:
            peaks[count] = entry["bytes"]
    if len(peaks) > 1:
        record.add("figures", constancy(peaks, title, judged))


def constancy(peaks: dict[int, int], title: str, judged: bool) -> dict[str, Any]:
    """The figure that says whether peak memory, by number of inner steps, is constant."""
    value = max(peaks.values()) / min(peaks.values())
    name = f"largest / smallest peak memory, {min(peaks)} to {max(peaks)} inner steps"
    return figure(name, title, value, (CONSTANT, None), judged)


def against_unrolled(record: Record, budget: Budget, tested: Subject, size: int, counts: tuple[int, ...]) -> None:
    """Unrolled through the reference renderer, implicit through it, and implicit by the tested backend; with Adam."""
    judged, title = tested.device.type == "cuda", f"{2 * size**2:,} Gaussians, {size}x{size} x 2, SH 1, Adam"
    modes = {
        "unrolled, torch": dict(backend="torch", backward_mode="unroll"),
        "implicit, torch": dict(backend="torch"),
        f"implicit, {tested.backend}": dict(backend=tested.backend),
    }
    for settings in modes.values():
        training_step(size, tested.device, inner_solver="adam", inner_steps=1, **settings)()
    for count in counts:
        found: dict[str, dict[str, Any]] = {}
        for mode, settings in modes.items():
            if budget.left <= 0:
                record.add("not_run", {"size": title, "row": f"{mode}, {count} steps", "reason": "no time left"})
                continue
            step = training_step(size, tested.device, inner_solver="adam", inner_steps=count, **settings)
            found[mode] = measured(step, tested.device)
            record.add("unrolled", {"size": title, "mode": mode, "inner_steps": count, **found[mode]})
        for entry in comparisons(title, count, found, judged, last=count == max(counts)):
            record.add("figures", entry)


def comparisons(
    title: str, count: int, found: dict[str, dict[str, Any]], judged: bool, last: bool
) -> Iterator[dict[str, Any]]:
    """Memory of each implicit mode over that of unrolling; an aim, no more, for the same renderer at the most steps."""
    unrolled = found.get("unrolled, torch", {})
    for mode, measurement in found.items():
        if mode.startswith("unrolled") or not unrolled.get("bytes") or not measurement["bytes"]:
            continue
        value = measurement["bytes"] / unrolled["bytes"]
        entry = figure(f"memory of {mode} / unrolled, {count} steps", title, value, (None, None), judged)
        if last and mode == "implicit, torch":
            reached = "aim" if value <= UNROLLED else "aim missed"
            entry |= {"aim": UNROLLED, "verdict": reached if judged else "not judged"}
        yield entry


def main() -> None:
    with recorded("memory", __doc__) as (record, budget, options):
        tested = tested_on(options.cpu)
        if options.cpu:
            record.put("note", "resident memory of the process, coarse: not a figure of merit")
            against_steps(record, budget, tested, 16, (1, 3, 10))
            against_unrolled(record, budget, tested, 4, (3, 10))
        else:
            against_steps(record, budget, tested, 256, (1, 3, 10, 30, 100))
            against_unrolled(record, budget, tested, 12, (10, 50, 100))
        if record.content.get("not_run"):
            record.end(TRUNCATED, "no time left for the rows under not_run")


if __name__ == "__main__":
    main()
