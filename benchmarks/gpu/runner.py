"""Runs the parts one after the other, each in its own process and within its own time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import DONE, FAILED, RUNNING, SKIPPED, TRUNCATED
from diff3r_plugin.strict_json import write_json

MARGIN = 3.0
"""Seconds between the time a part is told it has and the moment it is killed: a part that looks at its clock ends by
itself and says what it left out."""

GRACE = 2.0
"""Seconds from asking a process to end to ending it."""


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Args:
        name: Of the part, and of its files.
        command: What to run; ``--out FILE --seconds S`` is appended.
        most: Seconds it may take.
        reserve: Seconds that earlier parts must leave for it.
        needed: Whether the later parts make no sense without it.
    """

    name: str
    command: tuple[str, ...]
    most: float
    reserve: float
    needed: bool = False


def run_parts(
    parts: Sequence[Part],
    folder: Path,
    total: float,
    tell: Callable[[str], None] = print,
    keep: Callable[[dict[str, dict[str, Any]]], None] = lambda results: None,
) -> dict[str, dict[str, Any]]:
    """Run all parts within ``total`` seconds; returns what each wrote, with its state, seconds and limit.

    Every part gets what is left minus the reserves of the parts after it, but not more than its own ``most``.
    ``keep`` is given all results after each part: whoever is stopped from outside keeps what is finished.
    """
    end = time.monotonic() + total
    results: dict[str, dict[str, Any]] = {}
    blocked: str | None = None
    for index, part in enumerate(parts):
        reserved = sum(later.reserve for later in parts[index + 1 :])
        limit = min(part.most, end - time.monotonic() - reserved)
        if blocked is not None:
            results[part.name] = {"part": part.name, "state": SKIPPED, "reason": blocked, "seconds": 0.0}
        elif limit <= MARGIN:
            reason = f"no time left for it: {total:.0f} s in all were spent on the parts before"
            results[part.name] = {"part": part.name, "state": TRUNCATED, "reason": reason, "seconds": 0.0}
        else:
            tell(f"== {part.name} (at most {limit:.0f} s)")
            results[part.name] = run_part(part, folder, limit)
        result = results[part.name]
        tell(f"   {part.name}: {result['state']}, {result['seconds']:.1f} s" + _because(result))
        write_json(folder / f"{part.name}.json", result)
        keep(results)
        if part.needed and result["state"] != DONE and blocked is None:
            blocked = f"{part.name} {result['state']}: {result['reason']}"
    return results


def run_part(part: Part, folder: Path, limit: float) -> dict[str, Any]:
    """Run one part for at most ``limit`` seconds; returns what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    out, log = folder / f"{part.name}.json", folder / f"{part.name}.log"
    out.unlink(missing_ok=True)
    started = time.monotonic()
    told = ("--out", str(out), "--seconds", f"{max(limit - MARGIN, 1.0):.1f}")
    with log.open("w", encoding="utf-8") as stream:
        # A process group of its own: a part's children (compilers, the miniature host) must not outlive it.
        process = subprocess.Popen(
            [*part.command, *told],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        killed = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            killed = True
        finally:
            _end(process)
    seconds = time.monotonic() - started
    result: dict[str, Any] = {"part": part.name, "state": RUNNING, "reason": None}
    if out.is_file():
        with contextlib.suppress(json.JSONDecodeError):  # written by something that is not a Record
            result |= json.loads(out.read_text(encoding="utf-8"))
    if killed and result["state"] != DONE:
        result |= {"state": TRUNCATED, "reason": f"stopped after {seconds:.0f} s; the entries written until then count"}
    elif result["state"] == RUNNING or (process.returncode != 0 and result["state"] == DONE):
        result |= {"state": FAILED, "reason": f"its process ended with status {process.returncode}; see {log.name}"}
    result |= {"seconds": seconds, "limit_seconds": limit}
    if result["state"] == FAILED:
        result["log_end"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
    return result


def _end(process: subprocess.Popen) -> None:
    """End a process, if it still runs, and everything it started."""
    for sign, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone already
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _because(result: dict[str, Any]) -> str:
    return f" ({str(result['reason']).splitlines()[0]})" if result["reason"] else ""
