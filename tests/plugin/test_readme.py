"""The README's commands for a new host, typed as they stand there."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from plugin.conftest import ROOT

pytestmark = pytest.mark.slow


def commands(after: str) -> list[str]:
    """The lines of the README's code block that follows these words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(after, 1)[1]
    block = re.match(r"\s*\n((?:    .*\n)+)", text)
    assert block, f"no code block after {after!r}"
    return [line.strip() for line in block[1].splitlines()]


def test_an_adapter_is_started_installed_checked_and_tested(wheel_environment, tmp_path):
    lines = commands("To start one:")
    assert len(lines) == 4 and lines[-1].startswith("pytest ")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pip", "pytest"):  # the environment takes these packages from the one that runs the tests
        (programs / name).write_text(f'#!/bin/sh\nexec "{wheel_environment.python}" -m {name} "$@"\n')
        (programs / name).chmod(0o755)
    script = "\n".join(lines).replace("PATH/TO/CHECKOUT", str(ROOT / "examples" / "mini_host"))
    path = [str(programs), str(wheel_environment.python.parent), os.environ["PATH"]]
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    variables = {**wheel_environment.variables({}), **offline, "PATH": os.pathsep.join(path)}
    try:
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        assert "mini_host" in done.stdout and re.search(r"\d+ passed", done.stdout) and "failed" not in done.stdout
    finally:
        wheel_environment.run("-m", "pip", "uninstall", "--quiet", "--yes", "diff3r-my_host", check=False)
