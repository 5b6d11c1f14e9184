"""The part that checks: tests by pytest, each on record, as long as there is time."""

import json

import pytest

from benchmarks.gpu.checks import DRY_RUN, ON_A_DEVICE, ROOT, run_checks
from benchmarks.gpu.record import Budget, Record

TESTS = """
import pytest

@pytest.mark.parametrize("size", [1, 2])
def test_right(size):
    pass

def test_wrong():
    assert 1 + 1 == 3, "illegal memory access"

def test_elsewhere():
    pytest.skip("there is no second device")
"""


@pytest.fixture
def outcome(tmp_path):
    """What is on record after a run of some tests."""

    def run(text, seconds=60.0):
        path = tmp_path / "test_of_a_device.py"
        path.write_text(text)
        record = Record(tmp_path / "checks.json", "checks")
        run_checks(record, Budget(seconds), [str(path)])
        return json.loads((tmp_path / "checks.json").read_text())

    return run


def test_every_test_is_on_record_and_a_failure_is_one_of_its_own(outcome):
    found = outcome(TESTS)
    assert [(c["name"], c["passed"]) for c in found["checks"]] == [
        ("test_right", True),
        ("test_right", True),
        ("test_wrong", False),
        ("test_elsewhere", None),
    ]
    assert found["checks"][1]["case"].endswith("2")
    assert "illegal memory access" in found["checks"][2]["note"] and "second device" in found["checks"][3]["note"]
    assert found["state"] == "running", "the part ends itself as done"


def test_tests_that_cannot_be_read_fail(outcome):
    found = outcome("import no_such_module")
    assert found["state"] == "failed" and "no_such_module" in found["checks"][0]["note"]


def test_a_run_in_which_everything_is_skipped_has_failed(outcome):
    found = outcome(TESTS[: TESTS.index("@")] + "def test_a():\n    pytest.skip('no GPU here')\n")
    assert found["state"] == "failed" and "all were skipped" in found["reason"]


def test_without_time_it_ends_after_a_test_and_says_so(outcome):
    found = outcome(TESTS, seconds=0.0)
    assert found["state"] == "truncated" and len(found["checks"]) == 1


def test_what_it_asks_pytest_for_is_there():
    assert all((ROOT / path).exists() for path in (*ON_A_DEVICE[:2], *DRY_RUN))
