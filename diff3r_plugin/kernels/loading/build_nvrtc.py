"""Compile GPU kernels with NVRTC, which comes with PyTorch: no toolkit, no host compiler, no headers."""

from __future__ import annotations

import ctypes.util
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from diff3r_plugin.kernels.loading import nvrtc_process
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.kernels.loading.build_cuda import closest
from diff3r_plugin.kernels.loading.cache import BuildError

OPTIONS = ("--std=c++17", "--device-as-default-execution-space")

LINE_INFO = "--generate-line-info"
"""So that profilers and checks of PTX name lines. NVRTC 11.8 crashes on it for sm_90: before 12 PTX alone has it."""

_LIBRARY = re.compile(r"(libnvrtc(-[0-9a-f]+)?\.so(\.[\d.]+)?|nvrtc64_\d+_\d+\.dll)")


def libraries() -> list[Path]:
    """Every NVRTC that can be found, PyTorch's own first: ``$DIFF3R_NVRTC`` alone, if that is set.

    Raises:
        BuildError: if there is none.
    """
    chosen = os.environ.get("DIFF3R_NVRTC")
    if chosen:
        if not Path(chosen).is_file():
            raise BuildError(f"$DIFF3R_NVRTC names {chosen!r}, which does not exist.")
        return [Path(chosen)]
    found: dict[Path, Path] = {}
    for folder in _folders():
        if folder.is_dir():
            for path in sorted(folder.iterdir(), reverse=True):
                if is_library(path):
                    found.setdefault(path.resolve(), path)
    if not found:
        release = torch.version.cuda
        package = f"nvidia-cuda-nvrtc-cu{release.split('.')[0]}" if release and int(release.split(".")[0]) < 13 else ""
        raise BuildError(
            f"no NVRTC found beside PyTorch {torch.__version__}: pip install {package or 'nvidia-cuda-nvrtc'}, or name "
            "a libnvrtc.so in $DIFF3R_NVRTC."
        )
    return list(found.values())


def is_library(path: Path) -> bool:
    """Whether a file is NVRTC by its name; its builtins are not."""
    return _LIBRARY.fullmatch(path.name) is not None


def _folders() -> Iterator[Path]:
    """Where wheels, conda and toolkits put it."""
    major = (torch.version.cuda or "").split(".")[0]
    spec = importlib.util.find_spec("nvidia")
    for base in spec.submodule_search_locations or () if spec else ():
        yield Path(base) / f"cu{major}" / "lib"
        yield Path(base) / "cuda_nvrtc" / "lib"
        yield Path(base) / "cuda_nvrtc" / "bin"
        yield from sorted(Path(base).glob("cu[0-9]*/lib"), reverse=True)
        yield from sorted(Path(base).glob("cu[0-9]*/bin"), reverse=True)
    if torch.__file__:
        yield Path(torch.__file__).parent / "lib"
    for name in ("CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield from (Path(os.environ[name]) / folder for folder in ("lib", "lib64", "bin"))
    yield Path("/usr/local/cuda/lib64")
    known = ctypes.util.find_library("nvrtc")  # a bare name on Linux, whose folder is one of these
    if known and not os.path.isabs(known):
        yield from (Path(f"/usr/lib/{machine}-linux-gnu") for machine in ("x86_64", "aarch64"))
        yield from (Path("/usr/lib64"), Path("/usr/lib/wsl/lib"))


class Nvrtc:
    """One NVRTC as a :class:`diff3r_plugin.kernels.loading.modules_cuda.Compiler`.

    Args:
        library: Its path.

    Raises:
        BuildError: if it cannot be loaded.
    """

    def __init__(self, library: Path) -> None:
        self._library = library
        about = self._ask({})
        self.version: tuple[int, int] = tuple(about["version"])  # type: ignore[assignment]
        self._architectures = sorted(about["architectures"])
        self.name = f"NVRTC {self.version[0]}.{self.version[1]}"
        self.key = hashlib.sha256(repr((about, OPTIONS, LINE_INFO)).encode()).hexdigest()[:12]

    def target(self, capability: tuple[int, int]) -> str:
        """``sm_90``; for a device that is newer than this NVRTC the newest ``compute_``, which the driver finishes."""
        return closest(capability, self._architectures)

    def compile(self, source: Path, bases: int, target: str, output: Path) -> None:
        folders = [f"--include-path={folder}" for folder in (SOURCE_DIRECTORY, SOURCE_DIRECTORY / "cuda")]
        defined = [f"--define-macro=DIFF3R_BASES={bases}"] if bases else []
        kind = "CUBIN" if target.startswith("sm_") else "PTX"
        lines = [LINE_INFO] if kind == "PTX" or self.version >= (12, 0) else []
        self._ask(
            {
                "source": str(source),
                "options": [f"--gpu-architecture={target}", *OPTIONS, *lines, *folders, *defined],
                "kind": kind,
                "output": str(output),
            }
        )

    def _ask(self, request: dict) -> dict:
        program = [sys.executable or "python3", "-I", "-S", nvrtc_process.__file__]
        question = json.dumps({"library": str(self._library), **request})
        try:
            done = subprocess.run(program, input=question, capture_output=True, text=True, check=False, timeout=900)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{self._library}: the process that compiles does not run: {error}.") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise BuildError(f"{self._library}: the process that compiles ended with {done.returncode}, saying {said}")
        answer = json.loads(done.stdout)
        if "error" in answer:
            lines = "\n".join(answer["error"].strip().splitlines()[:12])
            raise BuildError(f"{self._library}: {lines}")
        return answer


def compilers() -> tuple[list[Nvrtc], list[str]]:
    """Every NVRTC that loads, the preferred one first; and why others do not."""
    usable, complaints = [], []
    try:
        candidates = libraries()
    except BuildError as error:
        return [], [f"NVRTC: {error}"]
    for library in candidates:
        try:
            usable.append(Nvrtc(library))
        except BuildError as error:
            complaints.append(f"NVRTC: {error}")
    return usable, complaints
