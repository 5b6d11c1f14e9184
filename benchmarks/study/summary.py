"""Means with the two errors that must not be mixed: over rooms, and over trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diff3r_plugin.mean_and_error import MeanAndError


@dataclass(frozen=True)
class Summary:
    """A mean over seeds and rooms.

    Args:
        mean: Over everything.
        over_rooms: Standard error over rooms of the means over seeds: what other rooms would change.
        over_seeds: Standard error over seeds of the means over rooms: what other trainings would change.
        seeds: Their number.
        rooms: Their number.
    """

    mean: float
    over_rooms: float
    over_seeds: float
    seeds: int
    rooms: int

    @classmethod
    def of(cls, by_seed: Mapping[int, Sequence[float]] | Mapping[str, Sequence[float]]) -> Summary:
        """Of the rooms' values for each seed, in the same order of rooms.

        Raises:
            ValueError: without seeds, or if the seeds have different numbers of rooms.

        Example:
            >>> from benchmarks.study.summary import Summary
            >>> found = Summary.of({1: [1.0, 3.0], 2: [2.0, 4.0]})
            >>> found.mean, found.over_rooms, found.over_seeds
            (2.5, 1.0, 0.5)
        """
        lists = list(by_seed.values())
        if not lists or len({len(values) for values in lists}) != 1:
            raise ValueError(f"Every seed needs the same rooms; got {[len(values) for values in lists]} of them.")
        rooms = MeanAndError.of([sum(values) / len(values) for values in zip(*lists, strict=True)])
        seeds = MeanAndError.of([sum(values) / len(values) for values in lists])
        return cls(rooms.mean, rooms.standard_error, seeds.standard_error, len(lists), len(lists[0]))

    @classmethod
    def difference(cls, first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> Summary:
        """Of first minus second, paired by seed and room; seeds that both have."""
        common = [seed for seed in first if seed in second]
        return cls.of({s: [a - b for a, b in zip(first[s], second[s], strict=True)] for s in common})

    def text(self, digits: int = 2, sign: bool = False) -> str:
        """``+0.31 ± 0.08 (rooms) ± 0.02 (seeds)``."""
        mean = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        if self.rooms > 1:
            mean += f" ± {self.over_rooms:.{digits}f}"
        return mean if self.seeds < 2 else f"{mean} ± {self.over_seeds:.{digits}f}"
