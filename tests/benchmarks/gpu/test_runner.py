"""Parts run in their own processes and within their own time, and nothing they wrote is lost."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.record import Budget, Record, recorded
from benchmarks.gpu.runner import MARGIN, Part, run_part, run_parts

ROOT = Path(__file__).parents[3]


def part(code: str, **options) -> Part:
    preamble = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    preamble += "from pathlib import Path; from benchmarks.gpu.record import *\n"
    preamble += "out, seconds = Path(sys.argv[2]), float(sys.argv[4])\n"
    return Part(
        **{"name": "part", "command": (sys.executable, "-c", preamble + code), "most": 60, "reserve": 0} | options
    )


def read(path: Path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_slow_part_is_cut_short_and_keeps_what_it_wrote(tmp_path):
    code = """
import subprocess, time
record = Record(out, "part")
record.add("times", {"row": "forward", "seconds": 1.0})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
record.put("child", child.pid)
time.sleep(60)
"""
    started = time.monotonic()
    found = run_parts([part(code, most=MARGIN + 2)], tmp_path, 60.0, tell=lambda line: None)["part"]
    assert time.monotonic() - started < 30
    assert found["state"] == "truncated" and "stopped after" in found["reason"]
    assert found["times"] == [{"row": "forward", "seconds": 1.0}]
    assert read(tmp_path / "part.json") == found
    deadline = time.monotonic() + 5
    while _alive(found["child"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(found["child"]), "what a part starts must end with it"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_crash_is_a_failure_with_its_log(tmp_path):
    found = run_part(part("record = Record(out, 'part'); print('last words'); import os; os._exit(3)"), tmp_path, 30)
    assert found["state"] == "failed" and "status 3" in found["reason"] and found["log_end"] == ["last words"]


def test_a_part_that_ends_well(tmp_path):
    code = "record = Record(out, 'part'); record.put('told', seconds); record.end(DONE)"
    found = run_part(part(code), tmp_path, 30)
    assert found["state"] == "done" and found["told"] == pytest.approx(30 - MARGIN)
    skipped = run_part(part("Record(out, 'part').end(SKIPPED, 'no extras')"), tmp_path, 30)
    assert (skipped["state"], skipped["reason"]) == ("skipped", "no extras")


def test_later_parts_keep_their_reserve(tmp_path):
    code = "record = Record(out, 'part'); record.put('told', seconds); record.end(DONE)"
    parts = [part(code, name="first", most=50), part(code, name="second", most=20, reserve=18)]
    found = run_parts(parts, tmp_path, 30.0, tell=lambda line: None)
    assert found["first"]["limit_seconds"] == pytest.approx(12, abs=0.5)
    assert 18 < found["second"]["limit_seconds"] <= 20
    none = run_parts(parts, tmp_path, 10.0, tell=lambda line: None)
    assert none["first"]["state"] == "truncated" and "no time left" in none["first"]["reason"]


def test_without_a_needed_part_the_others_are_skipped(tmp_path):
    parts = [
        part("raise SystemExit(1)", name="first_use", needed=True),
        part("Record(out, 'part').end(DONE)", name="checks"),
    ]
    found = run_parts(parts, tmp_path, 60.0, tell=lambda line: None)
    assert found["first_use"]["state"] == "failed"
    assert found["checks"]["state"] == "skipped" and "first_use failed" in found["checks"]["reason"]


def test_an_exception_ends_a_record_as_failed(tmp_path, monkeypatch):
    path = tmp_path / "part.json"
    monkeypatch.setattr(sys, "argv", ["part", "--out", str(path), "--seconds", "5"])
    with pytest.raises(ZeroDivisionError), recorded("part", None) as (record, budget, options):
        assert 0 < budget.left <= 5 and options.cpu is False
        record.add("times", {"seconds": 1.0})
        1 / 0  # noqa: B018
    found = read(path)
    assert found["state"] == "failed" and "ZeroDivisionError" in found["reason"] and found["times"]
    with recorded("part", None) as (record, _, _):
        pass
    assert read(path)["state"] == "done"
    assert Budget(-1).left < 0 and Record(path, "x").ended is False
