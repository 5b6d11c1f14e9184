"""Compile all GPU kernels by every NVRTC that is given: ``python -m benchmarks.gpu.nvrtc [FOLDER OR LIBRARY ...]``.

Each argument is a libnvrtc, or a folder that is searched for them; without any, those that the package itself finds.
For every compute capability from 7.5 to 12.0 that a release knows, all units at one SH degree; at all degrees for 9.0.
Prints seconds of processor time; status 1 where anything fails. Needs no GPU, toolkit or host compiler.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diff3r_plugin.kernels.loading import build_nvrtc, modules_cuda
from diff3r_plugin.kernels.loading.build_nvrtc import Nvrtc
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.kernel_table import BASES, units

CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
ALL_DEGREES = (9, 0)
ONE_DEGREE, FIRST_USE = 4, "sm_90"
"""Basis functions of SH degree 1, and the target for which the time of a first use is measured."""


def found(given: list[Path]) -> list[Path]:
    """The libraries that arguments name.

    Raises:
        SystemExit: for a folder without any.
    """
    libraries: list[Path] = []
    for path in given:
        below = [p for p in sorted(path.rglob("*nvrtc*")) if build_nvrtc.is_library(p)] if path.is_dir() else [path]
        if not below:
            raise SystemExit(f"there is no libnvrtc below {path}.")
        libraries += below
    return libraries or build_nvrtc.libraries()


def jobs(compiler: Nvrtc) -> Iterator[tuple[Path, int, str]]:
    """Source, basis functions and target of everything that a release is to compile."""
    dependent = units(of_bases=True)
    for capability in CAPABILITIES:
        target = compiler.target(capability)
        if not target.startswith("sm_"):
            continue
        for source in modules_cuda.sources():
            all_of_them = BASES if capability == ALL_DEGREES else (ONE_DEGREE,)
            for bases in all_of_them if source.stem in dependent else (0,):
                yield source, bases, target


def compiled(library: Path, folder: Path) -> bool:
    """Compile everything by one library, and say so."""
    try:
        compiler = Nvrtc(library)
        todo = list(jobs(compiler))
    except BuildError as error:
        print(f"{library}: FAILED: {error}")
        return False

    def make(job: tuple[Path, int, str]) -> str | None:
        source, bases, target = job
        try:
            compiler.compile(source, bases, target, folder / f"{source.stem}_{bases}_{target}")
            return None
        except BuildError as error:
            return f"{source.name} ({bases} basis functions) for {target}: {error}"

    def all_of(some: list[tuple[Path, int, str]]) -> tuple[list[str], float]:
        """Complaints, and seconds of all processors."""
        before = os.times()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            complaints = [complaint for complaint in pool.map(make, some) if complaint]
        after = os.times()
        return complaints, after.children_user + after.children_system - before.children_user - before.children_system

    complaints, seconds = all_of(todo)
    _, first_use = all_of([job for job in todo if job[1:] in ((0, FIRST_USE), (ONE_DEGREE, FIRST_USE))])
    targets = ", ".join(dict.fromkeys(target for _, _, target in todo))
    print(
        f"{compiler.name}: {len(todo) - len(complaints)} of {len(todo)} modules for {targets}, {seconds:.0f} CPU s; "
        f"what a first use compiles at SH degree 1 for {FIRST_USE}: {first_use:.1f} CPU s"
    )
    for complaint in complaints:
        print(f"  FAILED: {complaint}")
    return not complaints


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.nvrtc", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("libraries", nargs="*", type=Path, metavar="FOLDER_OR_LIBRARY")
    with tempfile.TemporaryDirectory() as folder:
        results = [compiled(library, Path(folder)) for library in found(parser.parse_args(arguments).libraries)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
