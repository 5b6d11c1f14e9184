"""Run a compiler: all sources of a library side by side, then the linker."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from diff3r_plugin.kernels.loading.cache import BUILDING

LOGGER = logging.getLogger("diff3r_plugin.kernels")


@contextmanager
def announced(what: str, duration: str = "about a minute") -> Iterator[None]:
    """Say that a compiler is at work, and when it is done: a silent minute looks like a program that hangs.

    At the level of warnings, which programs show that have set up no logging.
    """
    LOGGER.warning("diff3r: compiling the %s for this machine, once; this takes %s ...", what, duration)
    started = time.monotonic()
    yield
    LOGGER.warning("diff3r: compiled the %s in %.0f s", what, time.monotonic() - started)


def compile_library(
    command: Sequence[str], flags: Sequence[str], link: Sequence[str], sources: Sequence[Path], target: Path
) -> str | None:
    """Compile all sources side by side and link them to ``target``; the compiler's complaint, or None after success.

    Args:
        command: The compiler.
        flags: For compiling.
        link: Everything that linking needs besides ``-shared``.
        sources: Units to compile.
        target: Put in place by an atomic rename.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=BUILDING) as folder:
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        jobs = [[*command, *flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
        with ThreadPoolExecutor(max_workers=max(1, min(len(jobs), os.cpu_count() or 1))) as pool:
            errors = [error for error in pool.map(run, jobs) if error]
        if errors:
            return errors[0]
        output = Path(folder) / target.name
        error = run([*command, "-shared", *map(str, objects), *link, "-o", str(output)])
        if error is None:
            os.replace(output, target)
        return error


def run(arguments: list[str]) -> str | None:
    """Run a compiler; returns its complaint, or None after success."""
    try:
        result = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return str(error)
    if result.returncode == 0:
        return None
    complaint = "\n".join((result.stderr or result.stdout).strip().splitlines()[:12])
    return f"{complaint or f'exit status {result.returncode}'}\n(command: {' '.join(arguments)})"
