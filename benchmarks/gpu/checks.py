"""Part 1: is everything right? ``python -m benchmarks.gpu.checks --out FILE --seconds S [--cpu]``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import torch

from benchmarks.gpu.behavior import BEHAVIOR_CHECKS
from benchmarks.gpu.products import PRODUCT_CHECKS, Check, Subject
from benchmarks.gpu.record import CUT_SHORT, Budget, Record, recorded

CHECKS = (*PRODUCT_CHECKS, *BEHAVIOR_CHECKS)


def run_checks(
    record: Record,
    budget: Budget,
    tested: Subject,
    checks: Sequence[Callable[[Subject], Iterator[Check]]] = CHECKS,
) -> None:
    """Run the checks while there is time; an exception in one is a failure of that one."""
    for position, check in enumerate(checks):
        if budget.left <= 0:
            left_out = ", ".join(c.__name__ for c in checks[position:])
            record.put("left_out", left_out)
            record.end(CUT_SHORT, f"no time left for {left_out}")
            return
        started = time.monotonic()
        try:
            for result in check(tested):
                record.add("checks", asdict(result))
                if budget.left <= 0:
                    break
        except Exception as error:  # whatever it is: the other checks are worth running
            message = f"{type(error).__name__}: {error}"
            record.add("checks", asdict(Check.that(check.__name__, "ran to its end", False, message)))
        record.add("times", {"check": check.__name__, "seconds": time.monotonic() - started})
        if budget.left <= 0:
            record.end(CUT_SHORT, f"{check.__name__} was the last there was time for")
            return


def tested_on(cpu: bool) -> Subject:
    """The backend that this run is about."""
    return Subject("native", torch.device("cpu")) if cpu else Subject("gsplat", torch.device("cuda", 0))


def main() -> None:
    with recorded("checks", __doc__) as (record, budget, options):
        run_checks(record, budget, tested_on(options.cpu))


if __name__ == "__main__":
    main()
