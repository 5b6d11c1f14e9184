"""What is counted of a computation on pretended devices, and what is found wrong with it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = Path(__file__).resolve().parent


class ForbiddenWait(RuntimeError):
    """The host would wait for a device where ``torch.cuda.set_sync_debug_mode("error")`` forbids it."""


@dataclass(frozen=True)
class Counts:
    """How often the host did what on behalf of a device.

    Args:
        operations: PyTorch operations that launch at least one kernel or copy.
        kernels: Launches of our own kernels.
        waits: Times the host waits for a device.
        allocations: New tensors on a device.
    """

    operations: int
    kernels: int
    waits: int
    allocations: int

    @property
    def launches(self) -> int:
        """Operations and kernels together."""
        return self.operations + self.kernels

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.operations - other.operations,
            self.kernels - other.kernels,
            self.waits - other.waits,
            self.allocations - other.allocations,
        )

    def each(self, times: int) -> Counts:
        """Of one of so many equal repetitions."""
        numbers = (self.operations, self.kernels, self.waits, self.allocations)
        return Counts(*(number // times for number in numbers))


@dataclass
class Ledger:
    """Everything that was noted since it was made.

    Args:
        launched: How many of our kernels have been launched in this process.
        operations, waits, allocations: How often, by what and where in the checkout.
        findings: What a device would have refused, and where.
        strict: Waits raise :class:`ForbiddenWait`.
    """

    launched: Callable[[], int]
    operations: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    allocations: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    strict: bool = False

    def counts(self) -> Counts:
        """The totals so far; differences of two of them belong to what ran in between."""
        return Counts(self.operations.total(), self.launched(), self.waits.total(), self.allocations.total())

    def operation(self, name: str) -> None:
        self.operations[f"{name} at {_where()}"] += 1

    def allocation(self, name: str) -> None:
        self.allocations[f"{name} at {_where()}"] += 1

    def wait(self, name: str) -> None:
        """Raises:
        ForbiddenWait: where waits are forbidden.
        """
        where = _where()
        self.waits[f"{name} at {where}"] += 1
        if self.strict:
            raise ForbiddenWait(f"{name} makes the host wait for a device at {where}, where that is forbidden.")

    def finding(self, what: str) -> None:
        self.findings[f"{what} at {_where()}"] += 1


def _where() -> str:
    """The innermost line of the checkout that is not of this package."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(OWN) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "?"
