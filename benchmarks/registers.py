"""Registers, spilled bytes and shared memory of every GPU kernel: ``python -m benchmarks.registers [--json FILE]``.

As nvcc's assembler says them, for one architecture (``--arch sm_90``). Needs the CUDA toolkit and no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from diff3r_plugin.kernels.loading import build_cuda, modules_cuda, toolchain
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.kernel_table import BASES, units

_COMPILED = re.compile(r"Compiling entry function 'diff3r_(\w+)'")
_SPILLED = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")

SHOWN = (1, 4, 16)
"""Numbers of basis functions in the printed table; the file has all."""

Figures = dict[str, dict[str, int]]


def measure(architecture: str) -> Figures:
    """Registers, stack, spills and shared memory by kernel and, where it depends on that, number of bases.

    Raises:
        SystemExit: without nvcc.
    """
    try:
        compiler = build_cuda.Nvcc(build_cuda.nvcc())
    except BuildError as error:
        raise SystemExit(f"benchmarks.registers needs the CUDA toolkit: {error}") from error
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in modules_cuda.sources():
            for bases in BASES if source.stem in units(of_bases=True) else (0,):
                said = Path(folder) / "said"
                command = [*build_cuda.nvcc(), *compiler.flags(bases, architecture), "-Xptxas", "-v", "-cubin"]
                shell = f"{' '.join(command)} {source} -o {folder}/made 2> {said}"
                complaint = toolchain.run(["sh", "-c", shell])
                if complaint is not None:
                    raise SystemExit(f"{complaint}\n{said.read_text()}")
                for kernel, figures in _read(said.read_text()):
                    found[f"{kernel}, {bases} bases" if bases else kernel] = figures
    return found


def _read(said: str) -> Iterator[tuple[str, dict[str, int]]]:
    parts = _COMPILED.split(said)
    for kernel, text in zip(parts[1::2], parts[2::2], strict=True):
        stack, used, shared = _SPILLED.search(text), _USED.search(text), _SHARED.search(text)
        assert stack is not None and used is not None, text
        yield (
            kernel,
            {
                "registers": int(used[1]),
                "stack": int(stack[1]),
                "spilled": int(stack[2]),
                "shared": int(shared[1]) if shared else 0,
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="sm_90", help="what is compiled for")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    os.environ.pop("DIFF3R_NVCCFLAGS", None)
    figures = measure(arguments.arch)
    print(
        "| kernel | registers | stack, bytes | spilled, bytes | shared memory, bytes |\n| --- | --- | --- | --- | --- |"
    )
    for kernel, one in sorted(figures.items()):
        bases = re.search(r"(\d+) bases", kernel)
        if bases is None or int(bases[1]) in SHOWN:
            print(f"| {kernel} | {' | '.join(str(number) for number in one.values())} |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"architecture": arguments.arch, "kernels": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
