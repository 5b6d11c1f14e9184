"""Environments with the package really installed, from a wheel and editable."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin import plain_loop_host

ROOT = Path(__file__).parents[2]
SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "adapters",
    "diff3r_plugin",
    "diff3r_startup",
    "examples",
    "packaging_backend",
    "pyproject.toml",
    "setup.py",
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment; packages other than ours come from the one that runs the tests."""

    python: Path
    site: Path
    source: Path

    def run(self, *arguments, env=None, cwd=None, check=True, timeout=240) -> subprocess.CompletedProcess:
        """Run its interpreter without anything that this process's environment says about the plugin."""
        done = subprocess.run(
            [self.python, *map(str, arguments)],
            env=self.variables(env),
            cwd=cwd or self.site.parent,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        return done

    def start(self, *arguments, env=None, cwd=None) -> subprocess.Popen:
        """The same, without waiting for it."""
        return subprocess.Popen(
            [self.python, *map(str, arguments)],
            env=self.variables(env),
            cwd=cwd or self.site.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def variables(more: dict[str, str] | None) -> dict[str, str]:
        """This process's environment, but for what it says about the plugin."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DIFF3R", "PYTHON", "COV", "LOCAL_RANK"))}
        return {**clean, "OMP_NUM_THREADS": "1", **(more or {})}


def make_environment(folder: Path, kind: str | None) -> Environment:
    """A new environment with the package installed as a wheel, editable, or (None) not at all."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    site = Path(found.stdout.strip())
    outer = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site / "zz_outer.pth").write_text("".join(f"{path}\n" for path in outer))
    environment = Environment(python, site, source)
    if kind is not None:
        options = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        environment.run(*options, *(["--editable"] if kind == "editable" else []), source)
    return environment


@pytest.fixture(scope="session")
def wheel_environment(tmp_path_factory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def editable_environment(tmp_path_factory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("editable"), "editable")


@pytest.fixture(params=["wheel", "editable"])
def installed(request) -> Environment:
    return request.getfixturevalue(f"{request.param}_environment")


@pytest.fixture
def host(monkeypatch, tmp_path):
    """The two modules of the host with a loop of its own, fresh: patches of one test never meet another's."""
    monkeypatch.chdir(tmp_path)
    for name in ("network", "train"):
        spec = importlib.util.spec_from_file_location(name, plain_loop_host.HOST / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugged_in(host):
    """Puts the plugin in force on that host for the rest of the test; returns what it said."""
    plugged = plain_loop_host.PluggedIn(sys.modules["network"].Network)
    yield plugged
    plugged.patches.revert()
