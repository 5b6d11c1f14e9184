"""The fine-tuning scripts check their arguments before anything is run, and share what they can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = ("mvsplat", "noposplat")
ENCODERS = {
    "mvsplat": "src/model/encoder/encoder_costvolume.py",
    "noposplat": "src/model/encoder/encoder_noposplat.py",
}


def run(host, *arguments, **environment):
    done = subprocess.run(
        ["bash", EXAMPLES / f"{host}_finetune.sh", *map(str, arguments)],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def given(tmp_path):
    """Something of everything: a checkout with a main file, a checkpoint, data with an index."""
    checkout, data = tmp_path / "checkout", tmp_path / "data"
    (checkout / "src").mkdir(parents=True)
    (checkout / "src" / "main.py").touch()
    (checkout / "assets").mkdir()
    (checkout / "assets" / "evaluation_index_re10k.json").write_text("{}")
    for stage in ("train", "test"):
        (data / stage).mkdir(parents=True)
        (data / stage / "index.json").write_text("{}")
    (tmp_path / "re10k.ckpt").touch()
    return checkout, tmp_path / "re10k.ckpt", data


@pytest.mark.parametrize("host", SCRIPTS)
@pytest.mark.parametrize("arguments", [(), ("--help",), ("checkout", "checkpoint")])
def test_too_few_arguments_print_the_usage(host, arguments):
    status, out, _ = run(host, *arguments)
    assert status == 2 and f"{host}_finetune.sh CHECKOUT CHECKPOINT DATA" in out and "--smoke" in out
    assert "set -euo" not in out


@pytest.mark.parametrize("host", SCRIPTS)
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("checkout/src/main.py", "is no checkout of"),
        ("re10k.ckpt", "there is no checkpoint"),
        ("data/test/index.json", "test/index.json is missing"),
        ("checkout/assets/evaluation_index_re10k.json", "there is no evaluation index"),
    ],
)
def test_what_is_missing_is_named(given, tmp_path, host, missing, message):
    (tmp_path / missing).unlink()
    status, _, err = run(host, *given)
    assert status == 2 and err.startswith(f"{host}_finetune: ") and message in err


@pytest.mark.parametrize("host", SCRIPTS)
def test_a_checkout_that_does_not_fit_is_refused_with_what_doctor_says(given, host):
    status, out, err = run(host, *given, STEPS="10")
    assert status == 2 and "see what doctor says above" in err
    assert f"PROBLEM: {ENCODERS[host]}: file is missing" in out


@pytest.mark.parametrize("host", SCRIPTS)
def test_steps_are_a_number(given, host):
    status, _, err = run(host, *given, STEPS="many")
    assert status == 2 and "STEPS must be a whole number, got 'many'" in err


@pytest.mark.parametrize("host", SCRIPTS)
def test_a_smoke_run_needs_a_checkout(host):
    assert run(host, "--smoke")[0] == 2
    status, _, err = run(host, "--smoke", EXAMPLES)
    assert status == 2 and "has no src/main.py" in err
