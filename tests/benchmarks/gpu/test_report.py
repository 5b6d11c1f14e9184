"""Verdict, tables and ``results.json``; the command itself; the miniature host's environment."""

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import first_use, report, training
from benchmarks.gpu.figures import figure

ROOT = Path(__file__).parents[3]
HEADER = {
    "dry_run": False,
    "backend": "gsplat",
    "commit": "abc",
    "uncommitted_changes": False,
    "date": "2026-01-01",
    "command": "benchmarks/gpu_check.sh",
    "seconds": 1.0,
}
KEYS = {*HEADER, "notice", "device", "versions", "verdict", "parts"}


def ended(name, state="done", reason=None, **content):
    return {"part": name, "state": state, "reason": reason, "seconds": 1.0, **content}


def check(passed):
    return {"name": "test_jvp", "case": "small", "passed": passed, "note": "" if passed else "assert 1.0 < 1e-4"}


def parts(checks=(), figures=(), **others):
    return {
        "first_use": ended("first_use", device={"name": "GPU"}, versions={"torch": "2"}),
        "checks": ended("checks", checks=list(checks)),
        "figures": ended("figures", figures=list(figures)),
        **others,
    }


GOOD_FIGURE = figure("jvp / forward", "size", 1.0, (1.7, 1.1), judged=True)
MISSED_FIGURE = figure("jvp / forward", "size", 2.0, (1.7, 1.1), judged=True)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (parts([check(True)], [GOOD_FIGURE]), 0),
        (parts([check(True), check(None)], [GOOD_FIGURE], training=ended("training", "skipped", "no lightning")), 0),
        (parts([check(True), check(False)], [GOOD_FIGURE]), 1),
        (parts([check(False)], [GOOD_FIGURE]), 1),
        (parts([check(True)], [MISSED_FIGURE]), 1),
        (parts([check(True)], memory=ended("memory", "failed", "illegal memory access")), 1),
        (parts([check(True)], memory=ended("memory", "truncated", "stopped")), 3),
    ],
)
def test_exit_status(found, status):
    results = report.result(HEADER, found)
    assert results["verdict"]["exit_status"] == status
    printed = report.text(results)
    assert ("FAILED: " in printed) == bool(results["verdict"]["checks_failed"])
    assert ("MISSED: jvp / forward (size): 2, must be at most 1.7" in printed) == bool(results["verdict"]["missed"])


def test_a_dry_run_says_so_and_a_real_run_does_not():
    dry = report.result({**HEADER, "dry_run": True}, parts([check(True)]))
    assert dry["notice"] and report.text(dry).count("DRY RUN") == 2
    real = report.result(HEADER, parts([check(True)]))
    assert real["notice"] is None and "DRY RUN" not in report.text(real)
    assert set(real) == KEYS


def test_tables_show_every_section():
    row = {"size": "cell", "row": "jvp", "seconds": 0.002, "repetitions": 3}
    share = {"size": "cell", "kernel": "jvp", "visited": 5, "blended": 1}
    share |= {"share_of_arithmetic": 0.25, "share_of_bandwidth": 0.5}
    found = parts([check(True)], [GOOD_FIGURE])
    found["figures"] |= {"times": [row], "shares": [share], "achievable": {"bytes_per_second": 1e12}}
    found["figures"]["not_run"] = [{"size": "cell", "row": "gram", "reason": "out of memory"}]
    peak = {"size": "room", "inner_steps": 3, "bytes": 2_000_000, "seconds": 0.1, "reason": None}
    too_much = {**peak, "mode": "unrolled, torch", "bytes": None, "seconds": None, "reason": "OutOfMemoryError"}
    found["memory"] = ended("memory", implicit=[peak], unrolled=[too_much])
    run = {"run": "flag", "flag": True, "steps": 30, "wanted_steps": 30, "seconds_per_step": 0.125}
    found["training"] = ended("training", trainings=[run], held_out={"psnr_before": 20.0, "psnr_after": 21.5})
    kernel = {"kernel": "product_kernel", "seconds": 0.0015, "launches": 1}
    profiled = {"size": "cell", "row": "product", "seconds": 0.004, "host_seconds": 0.003, "kernel_seconds": 0.0015}
    ptxas = {
        "source": "a.cu",
        "kernel": "_Zk",
        "registers": 40,
        "stack_bytes": 0,
        "spilled_bytes": 0,
        "shared_bytes": 7,
    }
    tool = {"tool": "ncu", "status": None, "output": ["ncu is not installed"]}
    found["profile"] = ended("profile", rows=[{**profiled, "kernels": [kernel]}], resources=[ptxas], tools=[tool])
    printed = report.text(report.result(HEADER, found))
    assert "product_kernel 1.500" in printed and "ncu: status None" in printed and "_Zk" in printed
    for expected in ("2.000", "0.250", "out of memory", "2.0 MB", "OutOfMemoryError", "0.125", "21.5", "1e+12/s"):
        assert expected in printed


def test_the_command_writes_strict_results_even_without_time_for_any_part(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--cpu", "--seconds", "1", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "DRY RUN" in done.stdout and "no time left" in done.stdout

    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    results = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=refuse)
    assert (
        set(results) == KEYS | {"stage", "missing", "installed"}
        and results["dry_run"] is True
        and results["backend"] == "native"
    )
    assert list(results["parts"]) == ["first_use", "checks", "figures", "memory", "training"]
    assert results["parts"]["first_use"]["state"] == "truncated"
    assert results["stage"] == "all" and results["missing"] == {} and results["installed"] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["logs.tar.gz", "results.json"]


@pytest.mark.parametrize("cpu", [True, False])
def test_every_part_is_a_module_and_the_reserves_fit_into_the_time(cpu):
    listed = command.parts(cpu)
    for part in listed:
        assert importlib.util.find_spec(part.command[2]) is not None
        assert ("--cpu" in part.command) == cpu and part.reserve <= part.most
    total = 85.0 if cpu else command.MINUTES_NINE
    # However long a first use takes, the others have what is reserved for them.
    assert min(listed[0].most, total - sum(p.reserve for p in listed[1:])) >= listed[0].reserve
    assert command.MINUTES_NINE < 9 * 60


def test_versions_and_device_are_facts_of_this_machine():
    found = first_use.versions()
    assert found["torch"] == torch.__version__ and found["einops"] == importlib.metadata.version("einops")
    assert first_use.device_facts(torch.device("cpu"))["type"] == "cpu"
    assert first_use._from_output(["no-such-command-here"], "(.)") is None
    assert first_use._from_output([sys.executable, "-c", "print('release 12.4')"], r"release ([\d.]+)") == "12.4"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_device_the_script_says_so_at_once(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("TORCH_CUDA_ARCH_LIST", "MAX_JOBS")}
    environment["PYTHON"] = sys.executable
    script = ROOT / "benchmarks" / "gpu_check.sh"
    assert os.access(script, os.X_OK)
    done = subprocess.run([script, tmp_path], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no CUDA device" in done.stderr and "--cpu" in done.stderr


def test_missing_extras_are_a_reason_to_skip(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "NEEDED", ("json", "no_such_module_here"))
    monkeypatch.setattr(sys, "argv", ["training", "--out", str(tmp_path / "t.json"), "--seconds", "5", "--cpu"])
    training.main()
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["state"] == "skipped" and found["reason"].endswith("no_such_module_here")


def test_the_checkout_passes_for_an_installation(tmp_path, monkeypatch):
    """Without one, the adapter is found through metadata beside a link to the adapters."""
    monkeypatch.setattr(training.importlib.metadata, "entry_points", lambda **_: [])
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    entries = training.staged(tmp_path / "site")
    monkeypatch.undo()
    (distribution,) = importlib.metadata.distributions(path=entries[:1])
    (point,) = distribution.entry_points.select(group="diff3r")
    assert (point.name, point.value) == ("mini_host", "diff3r_adapters.mini_host")
    assert importlib.machinery.PathFinder.find_spec("diff3r_adapters", entries[:1]) is not None
    assert Path(entries[1], "diff_gaussian_rasterization").is_dir()
    shutil.rmtree(tmp_path / "site")


def test_a_failing_host_is_told_with_the_end_of_its_log(tmp_path, monkeypatch):
    pytest.importorskip("rich")
    host = tmp_path / "host"
    (host / "src").mkdir(parents=True)
    (host / "src" / "main.py").write_text("print('no such room'); raise SystemExit(4)")
    monkeypatch.setattr(training, "HOST", host)
    with pytest.raises(RuntimeError, match=r"(?s)status 4.*no such room"):
        training.Host(tmp_path, training.DRY_RUN).run("plain", "mode=train")
