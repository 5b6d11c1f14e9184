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

FLAGS = ("-std=c++17", "-O3", "-lineinfo")


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


UNSUPPORTED_HOST = r"unsupported (GNU|clang|Microsoft|host)|host compiler .*not supported"

_HINTS = {
    r"[Uu]nsupported gpu architecture|is not defined for option 'gpu-arch": (
        "This nvcc is older than the device: install a newer CUDA toolkit, or name its nvcc in $DIFF3R_NVCC."
    ),
    UNSUPPORTED_HOST: (
        "This nvcc does not know the host compiler: name an older one with DIFF3R_NVCCFLAGS='-ccbin g++-12', or "
        "install a newer CUDA toolkit."
    ),
    r"exception specification is incompatible|bits/mathcalls": (
        "This nvcc's headers are older than the system's C library: install a newer CUDA toolkit."
    ),
    r"Failed to preprocess host compiler|(gcc|g\+\+|cc1plus|cl\.exe)'?: (not found|No such)|Cannot find compiler": (
        "nvcc needs a host compiler: install g++, or name one with DIFF3R_NVCCFLAGS='-ccbin PATH'."
    ),
    r"(cuda_runtime|host_config|device_launch_parameters|crt/\w+)\.h: No such file|cannot open source file": (
        "This nvcc came without the toolkit's headers, as conda's does: install cuda-cudart-dev and cuda-cccl, too."
    ),
    r"No space left": "The disk is full: free some space, or name another folder in $DIFF3R_CACHE_DIR.",
}
"""What helps, by what a compiler says."""


def hint(error: str) -> str:
    """What helps against a compiler's complaint; NVRTC in any case, which needs no toolkit.

    Example:
        >>> from diff3r_plugin.kernels.loading.build_cuda import hint
        >>> hint("cc1plus: error: No space left on device").startswith("The disk is full")
        True
    """
    for pattern, advice in _HINTS.items():
        if re.search(pattern, error):
            return advice
    return "NVRTC needs no toolkit: pip install nvidia-cuda-nvrtc of PyTorch's CUDA release, and unset $DIFF3R_NVCC."


def closest(capability: tuple[int, int], architectures: list[int]) -> str:
    """What a compiler should compile for.

    Args:
        capability: Of the device.
        architectures: Compute capabilities times ten that the compiler knows; none if it does not say.

    Returns:
        ``sm_90`` for the device itself; ``compute_90``, for the driver to finish, where the compiler is older.

    Raises:
        BuildError: if the compiler no longer supports the device.
    """
    wanted = 10 * capability[0] + capability[1]
    if not architectures or wanted in architectures:
        return f"sm_{wanted}"
    older = [known for known in architectures if known < wanted]
    if not older:
        raise BuildError(
            f"compiles for compute capability {min(architectures) / 10:.1f} and newer, and this device has "
            f"{capability[0]}.{capability[1]}: install a PyTorch of an older CUDA release, or name an older compiler "
            "in $DIFF3R_NVRTC or $DIFF3R_NVCC."
        )
    return f"compute_{older[-1]}"


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
        """``sm_90``; for a device that is newer than this nvcc the newest ``compute_``, which the driver finishes."""
        return closest(capability, self._architectures())

    def compile(self, source: Path, bases: int, target: str, output: Path) -> None:
        kind = "-cubin" if target.startswith("sm_") else "-ptx"
        command = [*self._command, *self.flags(bases, target), kind, str(source), "-o", str(output)]
        error = toolchain.run(command)
        if error is not None and re.search(UNSUPPORTED_HOST, error):
            error = toolchain.run([*command, "-allow-unsupported-compiler"])
        if error is not None:
            raise BuildError(f"{' '.join(self._command)!r} failed for {target}:\n{error}\n{hint(error)}")

    def _architectures(self) -> list[int]:
        """Compute capabilities times ten that it compiles for; none if it does not say (before 11.1)."""
        return sorted(int(number) for number in re.findall(r"compute_(\d+)\b", self._ask("--list-gpu-arch")))

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
