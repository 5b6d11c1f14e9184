"""A mean over scenes with its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MeanAndError:
    """A mean over scenes and its standard error (NaN for fewer than two scenes)."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanAndError:
        """Of the values of all scenes; NaN (a scene that has no such value) is left out.

        Example:
            >>> from diff3r_plugin.mean_and_error import MeanAndError
            >>> MeanAndError.of([1.0, 2.0, 3.0])
            MeanAndError(mean=2.0, standard_error=0.5773502691896257)
        """
        values = [value for value in values if not math.isnan(value)]
        if not values:
            return cls(math.nan, math.nan)
        mean = sum(values) / len(values)
        if len(values) < 2:
            return cls(mean, math.nan)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        return cls(mean, math.sqrt(variance / len(values)))

    @classmethod
    def read(cls, entry: Mapping[str, float | None]) -> MeanAndError:
        """From a file of results, where a missing standard error is null."""
        mean, error = entry["mean"], entry["standard_error"]
        return cls(math.nan if mean is None else mean, math.nan if error is None else error)

    def text(self, digits: int, sign: bool = False) -> str:
        """``12.34 ± 0.56``."""
        mean = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        return mean if math.isnan(self.standard_error) else f"{mean} ± {self.standard_error:.{digits}f}"
