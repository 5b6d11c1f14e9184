"""The miniature host's command lines, run as their own processes and watched."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diff3r_plugin
from diff3r_plugin.demo.settings import DemoError
from diff3r_plugin.drop_in import SITE

POLL_SECONDS = 0.2
TAIL_LINES = 40


def host_folder() -> Path:
    """The miniature host: beside the package in a clone, within it when installed from a wheel.

    Raises:
        DemoError: if it is in neither place.
    """
    package = Path(diff3r_plugin.__file__).resolve().parent
    places = (package.parent / "examples" / "mini_host", package / "demo" / "mini_host")
    for folder in places:
        if (folder / "src" / "main.py").is_file():
            return folder
    raise DemoError(
        f"the demo trains the miniature host, which is neither at {places[0]} nor at {places[1]}; install the package "
        "again, or run `make demo` in a clone of the repository."
    )


def pretrained_weights() -> Path:
    """Weights of the miniature host, trained for long; they lie within it, in a clone and in a wheel.

    Raises:
        DemoError: if they are not there.
    """
    path = host_folder() / "pretrained" / "mini_host.ckpt"
    if not path.is_file():
        raise DemoError(
            f"there are no pretrained weights at {path}; install the package again, or train from random weights with "
            "`diff3r demo --from-scratch`."
        )
    return path


@dataclass(frozen=True)
class HostCommand:
    """One command line of the host.

    Args:
        title: What it does, for the user.
        arguments: What follows ``python -m src.main +experiment=re10k``.
        log: File for everything it prints.
    """

    title: str
    arguments: tuple[str, ...]
    log: Path

    def line(self) -> str:
        """The command as one types it in a shell, from any folder."""
        command = shlex.join(["python", "-m", "src.main", "+experiment=re10k", *self.arguments])
        return f"cd {shlex.quote(str(host_folder()))} && PYTHONPATH={shlex.quote(str(SITE))} {command}"


def run(command: HostCommand, watch: Callable[[], None] = lambda: None) -> float:
    """Run the host, calling ``watch`` every moment; returns the seconds it took.

    Raises:
        DemoError: if it fails, with the end of what it printed.
    """
    path = [str(SITE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), "HYDRA_FULL_ERROR": "1"}
    environment.pop("DIFF3R_PLUGIN", None)  # the flag on the command line decides, nothing else
    command.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with command.log.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "src.main", "+experiment=re10k", *command.arguments],
            cwd=host_folder(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                watch()
                time.sleep(POLL_SECONDS)
            watch()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        lines = command.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise DemoError(
            "\n".join(
                [
                    f"{command.title} failed with status {process.returncode}. The end of {command.log}:",
                    *(f"  {line}" for line in lines),
                    "The command was:",
                    f"  {command.line()}",
                ]
            )
        )
    return time.monotonic() - started


class TrainingLog:
    """Follows the metrics a training writes, and the pace at which they come.

    Args:
        path: ``metrics.jsonl`` of the host's local logger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, float]] = []
        self._arrivals: list[tuple[int, float]] = []
        self._offset = 0

    def read(self) -> None:
        """Read what was written since the last call."""
        if not self.path.is_file():
            return
        with self.path.open() as file:
            file.seek(self._offset)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):  # half a line: the rest comes later
                    break
                self._offset = file.tell()
                record = json.loads(line)
                if "loss/total" in record:
                    self.records.append(record)
                    self._arrivals.append((int(record["step"]), time.monotonic()))

    @property
    def step(self) -> int:
        """The last step that was reported."""
        return int(self.records[-1]["step"]) + 1 if self.records else 0

    def seconds(self) -> float | None:
        """How long the loop took from its first step to its last, by the pace of the reports; None if too few came.

        Starting Python and importing the host is left out.
        """
        if len(self._arrivals) < 2 or self._arrivals[-1][0] == self._arrivals[0][0]:
            return None
        (first_step, first), (last_step, last) = self._arrivals[0], self._arrivals[-1]
        return (last - first) * (last_step + 1) / (last_step - first_step)

    def curves(self, *names: str) -> dict[str, list[float]]:
        """The metrics by step, for plotting; NaN where one was not logged."""
        return {name: [float(record.get(name, math.nan)) for record in self.records] for name in ("step", *names)}
