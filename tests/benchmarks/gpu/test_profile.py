"""The profile: time by kernel, what ptxas says of each, and tools that may not be there."""

import json

import torch

from benchmarks.gpu import profile
from benchmarks.gpu.record import Budget, Record
from benchmarks.gpu.subject import Subject
from benchmarks.gpu.workloads import Size
from diff3r_plugin.render import available_backends

CPU = torch.device("cpu")
REPORT = """ptxas info    : Compiling entry function '_Zjvp' for 'sm_90'
ptxas info    : Function properties for _Zjvp
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 19712 bytes smem
ptxas info    : Compiling entry function '_Zgram' for 'sm_90'
ptxas info    : Function properties for _Zgram
    48 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""


def test_rows_are_split_by_kernel_and_a_row_that_fails_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(profile.ROWS, "jvp", lambda work: 1 / 0)
    record = Record(tmp_path / "profile.json", "profile")
    size = Size(8, (8, 12), 2, 1, 1)
    profile.profile_rows(record, Budget(60.0), Subject(available_backends()[0], CPU), (size,))
    found = json.loads((tmp_path / "profile.json").read_text())
    assert [n["row"] for n in found["not_run"]] == ["jvp"] and "ZeroDivisionError" in found["not_run"][0]["reason"]
    assert {r["row"] for r in found["rows"]} == set(profile.ROWS) - {"jvp"}
    for row in found["rows"]:
        assert row["seconds"] > 0 and row["host_seconds"] > 0
        assert row["kernels"] == sorted(row["kernels"], key=lambda entry: -entry["seconds"])


def test_a_split_adds_up_the_calls_of_a_kernel():
    a = torch.rand(64, 64)
    split = {entry["kernel"]: entry for entry in profile.kernel_split(lambda: (a @ a, a @ a), CPU)}
    assert split["aten::mm"]["launches"] == 2


def test_what_ptxas_says_is_read():
    assert list(profile.read_resources(REPORT)) == [
        {"kernel": "_Zjvp", "registers": 32, "stack_bytes": 0, "spilled_bytes": 0, "shared_bytes": 19712},
        {"kernel": "_Zgram", "registers": 255, "stack_bytes": 48, "spilled_bytes": 24, "shared_bytes": 0},
    ]


def test_a_tool_that_is_not_there_says_so():
    assert profile.tool("ncu", ("no-such-tool",), 1.0)["status"] is None
