"""Compiled modules of the GPU kernels: from the cache, or made by the first compiler that succeeds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from diff3r_plugin.kernels.loading import build_cuda, build_nvrtc, cache, toolchain
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.driver import DriverError
from diff3r_plugin.kernels.loading.kernel_table import units

OLDEST = (6, 0)
"""The first compute capability that adds doubles atomically."""


class Compiler(Protocol):
    """Something that makes modules.

    Attributes:
        name: For messages.
        key: A hash of its version and settings.
    """

    name: str
    key: str

    def target(self, capability: tuple[int, int]) -> str:
        """What it compiles for: ``sm_90``, or ``compute_90`` if the driver has to finish it.

        Raises:
            BuildError: if it can make nothing for this device.
        """
        ...

    def compile(self, source: Path, bases: int, target: str, output: Path) -> None:
        """Compile one unit.

        Raises:
            BuildError: with its complaint and what helps.
        """
        ...


def sources() -> list[Path]:
    """The units."""
    return sorted((SOURCE_DIRECTORY / "cuda").glob("*.cu"))


def sources_and_headers() -> list[Path]:
    """Everything that modules are made of."""
    folders = (SOURCE_DIRECTORY / "math", SOURCE_DIRECTORY / "cuda")
    return sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".h", ".cuh", ".cu"))


def images_for(capability: tuple[int, int], accept: Callable[[bytes], object] = len) -> Modules:
    """The modules for devices of this compute capability, by the compilers of this machine.

    Args:
        capability: As ``torch.cuda.get_device_capability()`` gives it, (9, 0) for an H200.
        accept: Called with a compiled module; raises DriverError if the driver does not take it.

    Raises:
        BuildError: for a device that is too old.
    """
    if capability < OLDEST:
        raise BuildError(
            f"the GPU kernels need compute capability {OLDEST[0]}.{OLDEST[1]} or newer, this device has "
            f"{capability[0]}.{capability[1]}; use the CPU, or backend='torch'."
        )
    return Modules(capability, *compilers(), accept)


def compilers() -> tuple[list[Compiler], list[str]]:
    """What can compile here, the preferred one first, and why others cannot: NVRTC; nvcc first where it is named."""
    by_nvrtc, by_nvcc = build_nvrtc.compilers(), build_cuda.compilers()
    ways = (by_nvcc, by_nvrtc) if os.environ.get("DIFF3R_NVCC") else (by_nvrtc, by_nvcc)
    return [c for usable, _ in ways for c in usable], [reason for _, missing in ways for reason in missing]


class Modules:
    """The modules for one kind of device, each made when it is first asked for.

    Args:
        capability: Of the device.
        compilers: To try, the preferred one first.
        missing: Why others are not among them.
        accept: As for :func:`images_for`.
    """

    def __init__(
        self,
        capability: tuple[int, int],
        compilers: Sequence[Compiler],
        missing: Sequence[str] = (),
        accept: Callable[[bytes], object] = len,
    ) -> None:
        self._capability, self._compilers, self._missing = capability, list(compilers), list(missing)
        self._accept = accept
        self._paths: dict[tuple[str, int], Path] = {}
        self._making = threading.Lock()

    def __call__(self, unit: str, bases: int) -> bytes:
        """The compiled module of a unit for a number of basis functions (0 where it does not depend on them).

        Raises:
            BuildError: with the complaint of each compiler.
        """
        with self._making:
            if (unit, bases) not in self._paths:
                # The self-test runs all of them: side by side they are there soonest, and announced once.
                together = [(name, bases) for name in units(of_bases=bases > 0)]
                self._provide([pair for pair in together if pair not in self._paths])
            return self._paths[unit, bases].read_bytes()

    def build(self) -> str:
        """What modules depend on: all sources, and the compilers that may make them."""
        return repr([_source_key(source.stem) for source in sources()] + [c.key for c in self._compilers])

    def _provide(self, wanted: list[tuple[str, int]]) -> None:
        while self._compilers:
            compiler = self._compilers[0]
            try:
                made = self._by(compiler, wanted)
                self._accept(made[wanted[0]].read_bytes())
                self._paths.update(made)
                return
            except (BuildError, DriverError) as error:  # a driver older than the compiler, say
                self._missing.append(f"{compiler.name}: {error}")
                self._compilers.remove(compiler)
        left = {pair: self._left_by_another(*pair) for pair in wanted}
        if any(path is None for path in left.values()):
            raise BuildError("the GPU kernels cannot be compiled here.\n" + "\n".join(f"* {c}" for c in self._missing))
        self._paths.update((pair, path) for pair, path in left.items() if path is not None)

    def _by(self, compiler: Compiler, wanted: list[tuple[str, int]]) -> dict[tuple[str, int], Path]:
        target = compiler.target(self._capability)
        names = {pair: f"{self._stem(*pair, target)}_{compiler.key}.cubin" for pair in wanted}
        found = {pair: path for pair, name in names.items() if (path := cache.find(name)) is not None}
        absent = [pair for pair in wanted if pair not in found]
        if not absent:
            return found

        def make(pair: tuple[str, int]) -> tuple[tuple[str, int], Path]:
            source = SOURCE_DIRECTORY / "cuda" / f"{pair[0]}.cu"
            compile_to = functools.partial(compiler.compile, source, pair[1], target)
            return pair, cache.provide(names[pair], lambda path: _atomically(compile_to, path))

        what = f"GPU kernels ({len(absent)} of {len(sources())} units) for {target} by {compiler.name}"
        with (
            toolchain.announced(what, "some seconds"),
            ThreadPoolExecutor(min(len(absent), os.cpu_count() or 1)) as pool,
        ):
            return {**found, **dict(pool.map(make, absent))}

    def _left_by_another(self, unit: str, bases: int) -> Path | None:
        """A module that some compiler left in the cache: on nodes of a cluster, say, that have none."""
        target = f"sm_{self._capability[0]}{self._capability[1]}"
        for path in cache.find_all(f"{self._stem(unit, bases, target)}_*.cubin"):
            with contextlib.suppress(DriverError):  # it may be from a compiler that is newer than the driver
                self._accept(path.read_bytes())
                return path
        return None

    @staticmethod
    def _stem(unit: str, bases: int, target: str) -> str:
        return f"diff3r_{unit}_{bases}_{target}_{_source_key(unit)}"


def _atomically(compile_to: Callable[[Path], object], path: Path) -> None:
    made = path.with_name(f"{cache.BUILDING}{os.getpid()}-{path.name}")
    try:
        compile_to(made)
        os.replace(made, path)
    finally:
        made.unlink(missing_ok=True)


@functools.cache
def _source_key(unit: str) -> str:
    """A hash of a unit and of all headers."""
    digest = hashlib.sha256()
    for source in sources_and_headers():
        if source.suffix != ".cu" or source.stem == unit:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
