"""The GPU check: ``python -m benchmarks.gpu [--cpu] [--stage NAME] [OUT_DIR]``; ``benchmarks/gpu_check.sh`` starts it.

Writes three files to OUT_DIR and prints the tables: results.json, anew after every part; logs.tar.gz; gsplat_cuda.so,
gsplat's compiled part, for ``GSPLAT_SO`` of a later run. Everything else lies in OUT_DIR_work. Exit status: 0 if all is
well, 1 if a check failed or a figure missed what it must reach, 3 if only something is missing for lack of time.

This module and what it imports need the standard library alone, so that nothing can keep it from reporting.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import environment, report
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
            part("profile", 20, 5),
        )
    return (
        part("first_use", 270, 60, needed=True),  # gsplat compiles itself: minutes on few cores
        part("checks", 120, 60),
        part("figures", 200, 80),
        part("memory", 90, 40),
        part("training", 150, 75),
        part("profile", 240, 10),
    )


STAGES = {
    "all": ("first_use", "checks", "figures", "memory", "training"),  # nine minutes hold no more
    "check": ("first_use", "checks"),
    "figures": ("first_use", "figures", "memory"),
    "train": ("first_use", "training"),
    "profile": ("first_use", "profile"),
}
"""Parts of a stage: each fits into nine minutes, so that a device that is lent in pieces is used for all of them."""


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
    parser.add_argument("--stage", choices=tuple(STAGES), default="all", help="a part of the check (default: all)")
    parser.add_argument("--seconds", type=float, help=f"for all parts (default {MINUTES_NINE:.0f}; dry run 85)")
    options = parser.parse_args()
    out = options.out or ROOT / "outputs" / ("gpu_check_cpu" if options.cpu else "gpu_check")
    total = options.seconds or (85.0 if options.cpu else MINUTES_NINE)
    started = time.monotonic()
    work = out.with_name(f"{out.name}_work")
    try:
        prepared = environment.prepare(work)
    except ValueError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    print("\n".join(prepared.lines()), flush=True)
    os.environ.update(prepared.variables)
    facts = {**header(options), "stage": options.stage, "missing": prepared.missing, "installed": prepared.installed}

    def keep(found: dict[str, dict[str, Any]]) -> None:
        if found.get("first_use", {}).get("gsplat_failed"):
            os.environ["DIFF3R_WITHOUT_GSPLAT"] = "1"  # the parts that follow shall not try again, for minutes
        write_json(out / "results.json", report.result({**facts, "seconds": time.monotonic() - started}, found))
        hand_out(work, out)

    chosen = [part for part in parts(options.cpu) if part.name in STAGES[options.stage]]
    run_parts(chosen, work / "parts", total, tell=lambda line: print(line, flush=True), keep=keep)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    print(report.text(results))
    print(f"\nwritten to {out / 'results.json'} after {results['seconds']:.0f} s")
    return results["verdict"]["exit_status"]


def hand_out(work: Path, out: Path) -> None:
    """The logs as one archive, and gsplat's compiled part."""
    with tarfile.open(out / "logs.tar.gz", "w:gz") as archive:
        for log in sorted((work / "parts").glob("*.log")):
            archive.add(log, log.name)
    library = work / "extensions" / environment.EXTENSION
    if library.is_file() and not (out / library.name).is_file():
        shutil.copy(library, out)


if __name__ == "__main__":
    sys.exit(main())
