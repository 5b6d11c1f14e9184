"""Compile the CPU kernels with the system's C++ compiler, once per machine, into the user's cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE_DIRECTORY = Path(__file__).resolve().parent
LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process that is compiling the same library before compiling it once more."""

BASE_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-pthread")


class BuildError(RuntimeError):
    """The kernels cannot be compiled here; the message says why and what to do."""


def compiler() -> list[str]:
    """The C++ compiler command: ``$DIFF3R_CXX``, ``$CXX``, or the first of c++, g++, clang++ on the path.

    Raises:
        BuildError: if there is none.
    """
    for variable in ("DIFF3R_CXX", "CXX"):
        command = shlex.split(os.environ.get(variable, ""))
        if command:
            if shutil.which(command[0]) is None:
                raise BuildError(f"${variable} names the compiler {command[0]!r}, which does not exist.")
            return command
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildError("no C++ compiler found: install g++ or clang++, or name one in $DIFF3R_CXX.")


def library_path() -> Path:
    """Path of the compiled kernels for this machine, compiling them if they are not in the cache.

    The file name carries a hash of sources and processor and one of compiler and flags, so a changed source, an
    upgraded compiler or a home directory shared by different machines each get their own library. Without a compiler
    (a compute node, say) a library that another compiler left for this processor will do. Several processes may call
    this at the same time: one compiles, the others wait for it.

    Raises:
        BuildError: if there is no compiler, or it fails.

    Example:
        >>> from diff3r_plugin.kernels.build import library_path
        >>> library_path().suffix in (".so", ".dylib")
        True
    """
    stem, suffix = f"diff3r_kernels_{_source_key()}", ".dylib" if sys.platform == "darwin" else ".so"
    try:
        command = compiler()
        runtime = openmp_runtime()
        name = f"{stem}_{_compiler_key(command, runtime)}{suffix}"
    except BuildError:
        for directory in _cache_directories():
            for path in sorted(directory.glob(f"{stem}_*{suffix}")):
                return path
        raise
    for directory in _cache_directories():
        target = directory / name
        if target.exists():
            return target
        if not _usable(directory):
            continue
        with _locked(directory / f"{name}.lock"):
            if not target.exists():
                _compile(command, runtime, target)
        return target
    raise BuildError("no directory can be written to: set $DIFF3R_CACHE_DIR to one that can.")


def openmp_runtime() -> str | None:
    """The OpenMP library that this process has loaded already (PyTorch's), or None.

    Linking against the same one lets kernels and PyTorch share a pool of threads; with two pools on the same cores,
    the idle one keeps spinning for milliseconds and takes the cores away from the busy one.
    """
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            match = re.search(r"/\S*/lib(?:gomp|iomp5|omp)(?:-\w+)?\.so[.\d]*$", line.strip())
            if match and os.path.exists(match.group()):
                return match.group()
    return None


def _sources() -> list[Path]:
    return sorted(p for p in SOURCE_DIRECTORY.iterdir() if p.suffix in (".cpp", ".h"))


def _source_key() -> str:
    digest = hashlib.sha256(_processor().encode())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compiler_key(command: list[str], runtime: str | None) -> str:
    try:
        result = subprocess.run([*command, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler {' '.join(command)!r} does not run: {error}.") from error
    settings = repr((command, BASE_FLAGS, _extra_flags(), runtime)).encode()
    return hashlib.sha256(result.stdout + settings).hexdigest()[:12]


def _processor() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        lines = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in info if ":" in line}
        return " ".join(lines.get(k, "") for k in ("model name", "flags", "Features", "CPU part"))
    return f"{platform.machine()} {platform.processor()}"


def _extra_flags() -> list[str]:
    return shlex.split(os.environ.get("DIFF3R_CXXFLAGS", ""))


def _cache_directories() -> Iterator[Path]:
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


def _compile(command: list[str], runtime: str | None, target: Path) -> None:
    """Try the best flags first; a compiler that lacks OpenMP or -march=native still makes a (slower) library."""
    native = ["-march=native"] if platform.machine().lower() in ("x86_64", "amd64", "i686") else ["-mcpu=native"]
    attempts = [
        ([*native, "-fopenmp"], [runtime] if runtime else ["-fopenmp"]),
        ([*native, "-fopenmp"], ["-fopenmp"]),
        (native, []),
        ([], []),
    ]
    failure = ""
    for flags, link in attempts:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as work:
            error = _attempt(command, [*BASE_FLAGS, *flags, *_extra_flags()], link, Path(work), target)
        if error is None:
            return
        failure = failure or error
    raise BuildError(f"the compiler {' '.join(command)!r} failed:\n{failure}")


def _attempt(command: list[str], flags: list[str], link: list[str], work: Path, target: Path) -> str | None:
    """Compile all sources side by side and link; returns the compiler's complaint, or None after success."""
    units = [source for source in _sources() if source.suffix == ".cpp"]
    objects = [work / f"{unit.stem}.o" for unit in units]
    with ThreadPoolExecutor(max_workers=max(1, min(len(units), os.cpu_count() or 1))) as pool:
        jobs = [[*command, *flags, "-c", str(u), "-o", str(o)] for u, o in zip(units, objects, strict=True)]
        errors = [error for error in pool.map(_run, jobs) if error]
    if errors:
        return errors[0]
    output = work / target.name
    error = _run(
        [*command, *flags[: len(BASE_FLAGS)], *_extra_flags(), "-shared", *map(str, objects), *link, "-o", str(output)]
    )
    if error is None:
        os.replace(output, target)
    return error


def _run(arguments: list[str]) -> str | None:
    try:
        result = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return str(error)
    if result.returncode == 0:
        return None
    complaint = "\n".join((result.stderr or result.stdout).strip().splitlines()[:12])
    return f"{complaint or f'exit status {result.returncode}'}\n(command: {' '.join(arguments)})"
