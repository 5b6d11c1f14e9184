"""Times of several things that take turns, so that a busy machine slows them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def in_turns(
    rows: Mapping[str, Callable[[], object]],
    seconds: float,
    device: torch.device | str = "cpu",
    after_turn: Callable[[int], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each row, turn by turn. The first turn warms up, and counts only if it used up the time.

    Args:
        rows: What to time, by name.
        seconds: No turn begins after so many.
        device: Whose work is waited for.
        after_turn: Is told how many turns are done.

    Example:
        >>> from diff3r_plugin.bench.timing import in_turns
        >>> {name: len(times) for name, times in in_turns({"nothing": lambda: None}, 0.0).items()}
        {'nothing': 1}
    """
    cuda = torch.device(device).type == "cuda"

    def timed(step: Callable[[], object]) -> float:
        if cuda:
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    begin = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in rows}
    turns = 0
    while not turns or time.perf_counter() - begin < seconds:
        for name, step in rows.items():
            times[name].append(timed(step))
        turns += 1
        if after_turn is not None:
            after_turn(turns)
    return {name: taken[1:] or taken for name, taken in times.items()}


def median_of_ratios(times: Mapping[str, list[float]], name: str, unit: str) -> float:
    """How many times longer a row takes than another: the median over turns, which a busy machine hardly moves."""
    return statistics.median(a / b for a, b in zip(times[name], times[unit], strict=True))
