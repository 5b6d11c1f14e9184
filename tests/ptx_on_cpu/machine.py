"""The C++ program that executes operations, compiled once."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
from collections.abc import Sequence
from ctypes import c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path

from diff3r_plugin.kernels.loading import cache, toolchain
from ptx_on_cpu.assemble import Op, Program, assemble
from ptx_on_cpu.parse import Entry, Instruction

FOLDER = Path(__file__).parent
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
)
"""Without contractions: fused operations are PTX's own alone."""

SLICE = 50
"""Instructions that a warp executes at most before another has its turn."""


class PtxFault(AssertionError):
    """A kernel did what a GPU would do wrong.

    Args:
        entry: The kernel's name.
        at: The instruction at fault.
        what: What it did.
    """

    def __init__(self, entry: str, at: Instruction, what: str) -> None:
        self.entry, self.at, self.what = entry, at, what
        source = f" ({at.source})" if at.source else ""
        super().__init__(f"{entry}: {what}\n    line {at.line} of its PTX{source}: {at.text}")


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The program; None without g++, whose loops over lanes it needs."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    flags = [*FLAGS, *_vectors()]
    units = sorted(FOLDER.glob("*.cpp"))
    digest = hashlib.sha256(repr(flags).encode())
    for path in (*units, *sorted(FOLDER.glob("*.h"))):
        digest.update(path.read_bytes())

    def make(target: Path) -> None:
        error = toolchain.compile_library([compiler], flags, [], units, target)
        assert error is None, error

    loaded = ctypes.CDLL(str(cache.provide(f"diff3r_ptx_on_cpu_{digest.hexdigest()[:16]}.so", make)))
    loaded.ptx_code.argtypes, loaded.ptx_code.restype = (c_char_p,), c_int32
    counted = (c_void_p, c_int64)
    loaded.ptx_kernel.argtypes, loaded.ptx_kernel.restype = (*counted, *counted, c_int64, *counted, *counted), c_void_p
    loaded.ptx_launch.argtypes = (c_void_p, c_int64, c_int64, c_void_p, c_int64, *counted, c_int32, c_int32, c_uint32)
    loaded.ptx_launch.restype = c_int64
    loaded.ptx_fault.restype = c_char_p
    loaded.ptx_executed.argtypes, loaded.ptx_executed.restype = counted[:1] * 2, None
    return loaded


def _vectors() -> list[str]:
    """What this CPU's loops may use."""
    try:
        known = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []
    return ["-mavx2", "-mfma"] if {"avx2", "fma"} <= set(known) else []


class Machine:
    """One kernel, ready to run.

    Args:
        entry: The kernel.

    Raises:
        Unknown: for an instruction that the machine does not have.
    """

    def __init__(self, entry: Entry) -> None:
        loaded = library()
        assert loaded is not None
        self._library = loaded
        self.program: Program = assemble(entry, lambda name: loaded.ptx_code(name.encode()))
        p = self.program
        ops, constants = (Op * len(p.ops))(*p.ops), (c_uint32 * len(p.constants))(*p.constants)
        shared, local = ((c_uint64 * (2 * len(r)))(*(end for pair in r for end in pair)) for r in (p.shared, p.local))
        self._handle = loaded.ptx_kernel(
            ops,
            len(p.ops),
            constants,
            len(p.constants),
            p.words,
            shared,
            len(p.shared),
            local,
            len(p.local),
        )

    def launch(
        self,
        blocks: int,
        threads: int,
        arguments: bytes,
        regions: Sequence[tuple[int, int, int]],
        checked: bool,
        seed: int,
    ) -> None:
        """Run all blocks.

        Args:
            blocks, threads: Along x.
            arguments: As a launch gives them.
            regions: Begin, bytes and word of the arguments of each array that the kernel may touch.
            checked: Whether addresses, races and reads of what was never written are looked for.
            seed: Of the order in which blocks, warps and paths run.

        Raises:
            PtxFault: for the first thing that a GPU would do wrong.
        """
        flat = (c_uint64 * (3 * len(regions)))(*(number for region in regions for number in region))
        slice_ = SLICE if checked else 1 << 30
        at = self._library.ptx_launch(
            self._handle, blocks, threads, arguments, len(arguments), flat, len(regions), checked, slice_, seed
        )
        if at >= 0:
            p = self.program
            raise PtxFault(p.entry.name, p.origin[at], self._library.ptx_fault().decode())

    def executed(self) -> list[int]:
        """How often warps executed each operation in this process; zero of those that are a part of the one before."""
        p = self.program
        counts = (c_int64 * len(p.ops))()
        self._library.ptx_executed(self._handle, counts)
        return [n * op.counted for op, n in zip(p.ops, counts, strict=True)]
