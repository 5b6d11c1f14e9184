"""Compile the GPU kernels with nvcc, once for each architecture, into the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from diff3r_plugin.kernels.loading import cache, toolchain
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.kernels.loading.cache import BuildError

FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC")


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


def library_path(capability: tuple[int, int]) -> Path:
    """Path of the kernels for GPUs of this compute capability, compiling them if they are not in the cache.

    Args:
        capability: As ``torch.cuda.get_device_capability()`` gives it, (9, 0) for an H200.

    Raises:
        BuildError: without nvcc, for a device older than 6.0 (no atomic addition of doubles), or if nvcc fails, as
            an nvcc older than the device does.

    Example:
        >>> from diff3r_plugin.kernels.loading.build_cuda import library_path
        >>> library_path((9, 0)).suffix                                                  # doctest: +SKIP
        '.so'
    """
    if capability < (6, 0):
        raise BuildError(
            f"the GPU kernels need compute capability 6.0 or newer, this device has {capability[0]}.{capability[1]}; "
            "use the CPU, or backend='torch'."
        )
    architecture = f"sm_{capability[0]}{capability[1]}"
    command = nvcc()
    name = f"diff3r_cuda_{architecture}_{_key(command)}.so"
    return cache.provide(name, lambda target: _compile(command, architecture, target))


def sources() -> list[Path]:
    """The CUDA units."""
    return sorted((SOURCE_DIRECTORY / "cuda").glob("*.cu"))


def sources_and_headers() -> list[Path]:
    """Everything that the CUDA library is made of."""
    folders = (SOURCE_DIRECTORY / "math", SOURCE_DIRECTORY / "cuda")
    return sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".h", ".cuh", ".cu"))


def _compile(command: list[str], architecture: str, target: Path) -> None:
    arguments = [f"-arch={architecture}", *FLAGS, "-I", str(SOURCE_DIRECTORY), *_extra_flags()]
    with toolchain.announced(f"CUDA kernels ({architecture})"):
        error = toolchain.compile_library(command, arguments, [f"-arch={architecture}"], sources(), target)
    if error is not None:
        raise BuildError(
            f"{' '.join(command)!r} failed for {architecture}:\n{error}\nAn nvcc that is older than the device cannot "
            "compile for it: install a newer CUDA toolkit, or name its nvcc in $DIFF3R_NVCC."
        )


def _extra_flags() -> list[str]:
    return shlex.split(os.environ.get("DIFF3R_NVCCFLAGS", ""))


def _key(command: list[str]) -> str:
    """A hash of sources, compiler and flags."""
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler {' '.join(command)!r} does not run: {error}.") from error
    digest = hashlib.sha256(version + repr((command, FLAGS, _extra_flags())).encode())
    for source in sources_and_headers():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
