"""Compile the CPU kernels with the system's C++ compiler, once per machine, into the user's cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from diff3r_plugin.kernels.loading import cache, toolchain
from diff3r_plugin.kernels.loading.cache import BuildError

SOURCE_DIRECTORY = Path(__file__).resolve().parent.parent
"""Holds the folders math, cpu and cuda; includes are relative to it."""

BASE_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-pthread")


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
    here = " Visual C++ (cl.exe) does not compile these: use MinGW's g++, or Linux under WSL, where they are tested."
    raise BuildError(
        "no C++ compiler found: install g++ or clang++, or name one in $DIFF3R_CXX."
        + (here if sys.platform == "win32" else "")
    )


def library_path() -> Path:
    """Path of the compiled kernels for this machine, compiling them if the cache has none that is sound.

    The file name carries a hash of sources and processor and one of compiler and flags, so a changed source, an
    upgraded compiler or a home directory shared by different machines each get their own library. Without a compiler
    (a compute node, say) a library that another compiler left for this processor will do. Several processes may call
    this at the same time: one compiles, the others wait for it.

    Raises:
        BuildError: if there is no compiler, or it fails.

    Example:
        >>> from diff3r_plugin.kernels.loading.build_cpu import library_path
        >>> library_path().suffix in (".so", ".dylib")
        True
    """
    stem, suffix = f"diff3r_kernels_{_source_key()}", ".dylib" if sys.platform == "darwin" else ".so"
    try:
        command = compiler()
        runtime = openmp_runtime()
        name = f"{stem}_{_compiler_key(command, runtime)}{suffix}"
    except BuildError:
        left = cache.find(f"{stem}_*{suffix}")
        if left is None:
            raise
        return left
    return cache.provide(name, lambda target: _compile(command, runtime, target))


def openmp_runtime() -> str | None:
    """The OpenMP library that this process has loaded already (PyTorch's), or None.

    Linking against the same one lets kernels and PyTorch share a pool of threads; with two pools on the same cores,
    the idle one keeps spinning for milliseconds and takes the cores away from the busy one.
    """
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        torch = importlib.util.find_spec("torch")
        return pytorchs_openmp(maps, os.path.dirname(torch.origin) if torch and torch.origin else "")
    return None


def pytorchs_openmp(maps: Iterable[str], torch_folder: str) -> str | None:
    """Of the OpenMP libraries in a process's memory map the one beside PyTorch; of none there, the first.

    Other packages bring their own (pycolmap does), and one that is loaded lower in memory comes first in the map.
    """
    found = [
        match.group()
        for line in maps
        if (match := re.search(r"/\S*/lib(?:gomp|iomp5|omp)(?:-\w+)?\.so[.\d]*$", line.strip()))
        and os.path.exists(match.group())
    ]
    beside = [
        path for path in found if torch_folder and path.startswith(torch_folder)
    ]  # also torch.libs, where wheels have it
    return next(iter(beside or found), None)


def _sources() -> list[Path]:
    """Everything that the CPU library is made of."""
    folders = (SOURCE_DIRECTORY / "math", SOURCE_DIRECTORY / "cpu")
    return sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".cpp", ".h"))


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
    units = [source for source in _sources() if source.suffix == ".cpp"]
    with toolchain.announced("CPU kernels"):
        for flags, link in attempts:
            common = [*BASE_FLAGS, "-I", str(SOURCE_DIRECTORY), *_extra_flags()]
            error = toolchain.compile_library(command, [*common, *flags], [*common, *link], units, target)
            if error is None:
                return
            failure = failure or error
    raise BuildError(f"the compiler {' '.join(command)!r} failed:\n{failure}")
