"""Compile shared libraries into the user's cache directory: once, by one process, and never half."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process that is compiling the same library before compiling it once more."""


class BuildError(RuntimeError):
    """Kernels cannot be compiled here; the message says why and what to do."""


def provide(name: str, make: Callable[[Path], None]) -> Path:
    """The library of this name, made first if no cache directory has it.

    Several processes may call this at the same time: one makes the library, the others wait for it.

    Args:
        name: File name; it should carry a hash of everything the library depends on.
        make: Writes the library to the path it is given, by an atomic rename.

    Raises:
        BuildError: if no directory can be written to, or from ``make``.
    """
    for directory in directories():
        target = directory / name
        if target.exists():
            return target
        if not _usable(directory):
            continue
        with _locked(directory / f"{name}.lock"):
            if not target.exists():
                make(target)
        return target
    raise BuildError("no directory can be written to: set $DIFF3R_CACHE_DIR to one that can.")


def directories() -> Iterator[Path]:
    """Where libraries may lie, the preferred place first."""
    chosen = os.environ.get("DIFF3R_CACHE_DIR")
    if chosen:
        yield Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        with contextlib.suppress(RuntimeError):  # no home directory
            yield (Path(base) if base else Path.home() / ".cache") / "diff3r-plugin"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"diff3r-plugin-{user}"


def _usable(directory: Path) -> bool:
    """Whether a library can be written there, and nobody else can replace it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and directory.stat().st_uid != os.getuid():
            return False
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; after LOCK_TIMEOUT, or where locks do not work, go on without it.

    Going on is safe because libraries are put in place by an atomic rename. The lock only saves double work, and
    the operating system releases it when its holder dies.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield


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
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as folder:
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
