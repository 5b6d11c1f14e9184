"""Part 1: is everything right? ``python -m benchmarks.gpu.checks --out FILE --seconds S [--cpu]``.

The tests of the package that run on a device, by pytest: every product against the reference renderer in float64, the
products in θ, the layer, streams, the end of memory, a second device.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import FAILED, TRUNCATED, Budget, Record, recorded

ROOT = Path(__file__).resolve().parents[2]

ON_A_DEVICE = ("tests/gpu", "tests/render/test_backends.py", "-k", "on_device or test_device")
"""What pytest is asked for."""

DRY_RUN = ("tests/gpu/test_device.py",)
"""The same of a dry run, in which ``DIFF3R_EMULATE_GPU`` lets the kernels run on the CPU."""


class Recorder:
    """A plugin of pytest that puts every test on record when it is done, and ends the run when time is up.

    Args:
        record: Where.
        budget: Time for all of them.
    """

    def __init__(self, record: Record, budget: Budget) -> None:
        self._record, self._budget, self.passed = record, budget, 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        passed = {"passed": True, "skipped": None}.get(report.outcome, False)
        self.passed += passed is True
        module, _, test = report.nodeid.partition("::")
        name, _, case = test.partition("[")
        self._record.add(
            "checks",
            {
                "name": name,
                "case": f"{Path(module).stem} {case.rstrip(']')}".strip(),
                "passed": passed,
                "note": "" if passed else _why(report),
                "seconds": report.duration,
            },
        )

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            entry = {"name": report.nodeid, "case": "collection", "passed": False, "note": _why(report)}
            self._record.add("checks", entry)

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        if self._budget.left <= 0:
            import pytest

            pytest.exit(f"{nodeid} was the last there was time for", returncode=0)


def _why(report: Any) -> str:
    """The line of a failure that says what went wrong, or why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr)[:2000]


def run_checks(record: Record, budget: Budget, arguments: Sequence[str]) -> None:
    """Run tests while there is time."""
    try:
        import pytest
    except ImportError:
        record.end(FAILED, "pytest is not installed; WHEELS=DIR names a folder of wheels that has it")
        return
    recorder = Recorder(record, budget)
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"))
    status = pytest.main([*options, *arguments], plugins=[recorder])
    if budget.left <= 0:
        record.end(TRUNCATED, f"no time left after {len(record.content.get('checks', ()))} tests")
    elif recorder.passed == 0 and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        record.end(FAILED, "no test has run on the device: all were skipped")
    elif status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        record.end(FAILED, f"pytest ended with status {int(status)}; the log says why")


def main() -> None:
    with recorded("checks", __doc__) as (record, budget, options):
        os.chdir(ROOT)
        if options.cpu:
            os.environ["DIFF3R_EMULATE_GPU"] = "1"
        run_checks(record, budget, DRY_RUN if options.cpu else ON_A_DEVICE)


if __name__ == "__main__":
    main()
