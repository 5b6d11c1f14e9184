"""Compile GPU kernels with nvcc, for those who have it and want it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from diff3r_plugin.kernels.loading import toolchain
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.kernels.loading.cache import BuildError

FLAGS = ("-std=c++17", "-O3")


def nvcc() -> list[str]:
    """The CUDA compiler command: ``$DIFF3R_NVCC``, nvcc in ``$CUDA_HOME``, on the path, or in /usr/local/cuda.

    Raises:
        BuildError: if there is none.
    """
    command = shlex.split(os.environ.get("DIFF3R_NVCC", ""))
    if command:
        if shutil.which(command[0]) is None:
            raise BuildError(f"$DIFF3R_NVCC names the compiler {command[0]!r}, which does not exist.")
        return command
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    for candidate in (*(f"{home}/bin/nvcc" for home in homes), "nvcc", "/usr/local/cuda/bin/nvcc"):
        found = shutil.which(candidate)
        if found:
            return [found]
    raise BuildError(
        "no nvcc found: install the CUDA toolkit of PyTorch's CUDA version, or name its nvcc in $DIFF3R_NVCC."
    )


def compilers() -> tuple[list[Nvcc], list[str]]:
    """What can compile here, the preferred one first; and why others cannot."""
    try:
        return [Nvcc(nvcc())], []
    except BuildError as error:
        return [], [str(error)]


class Nvcc:
    """nvcc as a :class:`diff3r_plugin.kernels.loading.modules_cuda.Compiler`.

    Args:
        command: As :func:`nvcc` finds it.

    Raises:
        BuildError: if it does not run.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        version = self._ask("--version")
        release = re.search(r"release ([\d.]+)", version)
        self.name = f"nvcc {release.group(1)}" if release else "nvcc"
        settings = version + repr((command, FLAGS, _extra_flags()))
        self.key = hashlib.sha256(settings.encode()).hexdigest()[:12]

    def target(self, capability: tuple[int, int]) -> str:
        return f"sm_{capability[0]}{capability[1]}"

    def compile(self, source: Path, bases: int, target: str, output: Path) -> None:
        kind = "-cubin" if target.startswith("sm_") else "-ptx"
        error = toolchain.run([*self._command, *self.flags(bases, target), kind, str(source), "-o", str(output)])
        if error is not None:
            raise BuildError(
                f"{' '.join(self._command)!r} failed for {target}:\n{error}\nAn nvcc that is older than the device "
                "cannot compile for it: install a newer CUDA toolkit, or name its nvcc in $DIFF3R_NVCC."
            )

    @staticmethod
    def flags(bases: int, target: str) -> list[str]:
        """What a unit is compiled with."""
        defined = [f"-DDIFF3R_BASES={bases}"] if bases else []
        return [f"-arch={target}", *FLAGS, *defined, "-I", str(SOURCE_DIRECTORY), *_extra_flags()]

    def _ask(self, question: str) -> str:
        try:
            return subprocess.run(
                [*self._command, question], capture_output=True, timeout=30, check=False, text=True, errors="replace"
            ).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"the compiler {' '.join(self._command)!r} does not run: {error}.") from error


def _extra_flags() -> list[str]:
    return shlex.split(os.environ.get("DIFF3R_NVCCFLAGS", ""))
