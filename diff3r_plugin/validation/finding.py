"""What a check found: a doubt that costs next to nothing, and the exact answer for those few that have one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Finding:
    """One check of one call.

    Args:
        doubtful: Whether something may be wrong, a single bool on the device of the input; a value that is not finite
            is always doubtful, for it may hide others.
        explain: Looks again, exactly and without the values that are not finite, and says what is wrong and what to
            do about it; None where nothing is.
    """

    doubtful: Bool[Tensor, ""]
    explain: Callable[[], str | None]


def raise_first(findings: Iterable[Finding]) -> None:
    """Raise the first finding that stands a second look; one transfer from the device for all of them.

    Raises:
        ValueError: with the value, what was expected, and the cure.
    """
    findings = list(findings)
    doubts = torch.stack([finding.doubtful for finding in findings]).tolist()
    for finding, doubtful in zip(findings, doubts, strict=True):
        message = finding.explain() if doubtful else None
        if message is not None:
            raise ValueError(message)


def beyond(value: Tensor, low: float, high: float) -> Bool[Tensor, ""]:
    """Whether any number of a tensor lies outside of [low, high] or is not finite."""
    if not value.numel():
        return torch.zeros((), dtype=torch.bool, device=value.device)
    least, most = torch.aminmax(value)
    return ~((least >= low) & (most <= high))


def finite_range(value: Tensor) -> tuple[float, float] | None:
    """Least and largest finite number of a tensor; None where there is none."""
    finite = value[value.isfinite()]
    return (float(finite.min()), float(finite.max())) if finite.numel() else None


def place(bad: Tensor, *axes: str) -> str:
    """Where the first True of a mask is, in words.

    >>> place(torch.tensor([[False, True]]), "scene", "view")
    'scene 0, view 1'
    """
    first = bad.nonzero()[0].tolist()
    return ", ".join(f"{axis} {index}" for axis, index in zip(axes, first, strict=False))
