"""The GPU check: ``python -m benchmarks.gpu [--cpu] [OUT_DIR]``; ``benchmarks/gpu_check.sh`` prepares the environment.

Writes OUT_DIR/results.json (and the parts' own files and logs beside it) and prints the tables. Exit status: 0 if all
is well, 1 if a check failed or a figure missed what it must reach, 3 if only something is missing for lack of time.

This module and what it imports need the standard library alone, so that nothing can keep it from reporting.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu import report
from benchmarks.gpu.runner import Part, run_parts
from diff3r_plugin.strict_json import write_json

ROOT = Path(__file__).resolve().parents[2]

MINUTES_NINE = 525.0
"""Seconds for all parts: nine minutes less what starting and reporting take."""


def parts(cpu: bool) -> tuple[Part, ...]:
    """The parts in their order; what comes first is what the rest depends on or what matters most."""
    flags = ("--cpu",) if cpu else ()

    def part(name: str, most: float, reserve: float, needed: bool = False) -> Part:
        return Part(name, (sys.executable, "-m", f"benchmarks.gpu.{name}", *flags), most, reserve, needed)

    if cpu:
        return (
            part("first_use", 40, 10, needed=True),
            part("checks", 60, 15),
            part("figures", 40, 10),
            part("memory", 40, 10),
            part("training", 80, 30),
        )
    return (
        part("first_use", 270, 60, needed=True),  # gsplat compiles itself: minutes on few cores
        part("checks", 120, 60),
        part("figures", 200, 80),
        part("memory", 90, 40),
        part("training", 150, 75),
    )


def header(options: argparse.Namespace) -> dict[str, object]:
    """Where the results come from."""
    return {
        "dry_run": options.cpu,
        "backend": "native" if options.cpu else "gsplat",
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join(["benchmarks/gpu_check.sh", *sys.argv[1:]]),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout; None where there is no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT_DIR", help="default: outputs/gpu_check[_cpu]")
    parser.add_argument(
        "--cpu", action="store_true", help="dry run: everything at tiny sizes on the CPU, no GPU figures"
    )
    parser.add_argument("--seconds", type=float, help=f"for all parts (default {MINUTES_NINE:.0f}; dry run 85)")
    options = parser.parse_args()
    out = options.out or ROOT / "outputs" / ("gpu_check_cpu" if options.cpu else "gpu_check")
    total = options.seconds or (85.0 if options.cpu else MINUTES_NINE)
    started = time.monotonic()
    found = run_parts(parts(options.cpu), out / "parts", total, tell=lambda line: print(line, flush=True))
    results = report.result({**header(options), "seconds": time.monotonic() - started}, found)
    write_json(out / "results.json", results)
    print(report.text(json.loads((out / "results.json").read_text(encoding="utf-8"))))
    print(f"\nwritten to {out / 'results.json'} after {results['seconds']:.0f} s")
    return results["verdict"]["exit_status"]


if __name__ == "__main__":
    sys.exit(main())
