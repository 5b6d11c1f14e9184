"""A driver that runs modules of PTX on this CPU, checked."""

from __future__ import annotations

import functools
from collections import Counter
from ctypes import Structure

from ptx_on_cpu.arrays import Arrays
from ptx_on_cpu.machine import Machine
from ptx_on_cpu.parse import Entry, entries


@functools.lru_cache(maxsize=64)
def _entries(image: bytes) -> dict[str, Entry]:
    return entries(image.rstrip(b"\0").decode())


@functools.cache
def _machine(image: bytes, entry: str) -> Machine:
    return Machine(_entries(image)[entry])


class PtxDriver:
    """In the place of :class:`diff3r_plugin.kernels.loading.driver.Driver`.

    Args:
        arrays: The tensors that kernels may be given.
        seed: Of the order in which everything runs; each launch takes the next one.
        checked: Whether launches look for faults; if not, they are faster, and count alone.
    """

    def __init__(self, arrays: Arrays, seed: int = 0, checked: bool = True) -> None:
        self._arrays, self._checked, self._seed = arrays, checked, seed
        self._modules: list[bytes] = []
        self._machines: list[Machine] = []
        self._before: dict[Machine, list[int]] = {}
        self.launches: Counter[str] = Counter()

    def load(self, device: int, image: bytes) -> int:
        """A module, by its PTX."""
        self._modules.append(image)
        return len(self._modules) - 1

    def function(self, module: int, entry: str) -> int:
        """A module's kernel."""
        machine = _machine(self._modules[module], entry)
        self._machines.append(machine)
        self._before.setdefault(machine, machine.executed())
        return len(self._machines)

    def launch(self, device: int, function: int, blocks: int, threads: int, stream: int, arguments: Structure) -> None:
        """Run a kernel to its end.

        Raises:
            PtxFault: for the first thing that a GPU would do wrong.
        """
        machine, packed = self._machines[function - 1], bytes(arguments)
        entry = machine.program.entry
        assert len(packed) == entry.parameter_bytes, f"{entry.name} takes {entry.parameter_bytes} bytes of arguments"
        self._seed += 1
        self.launches[entry.name] += 1
        machine.launch(blocks, threads, packed, self._arrays.regions(packed), self._checked, self._seed)

    def counts(self) -> Counter[str]:
        """Instructions that warps have executed, by kernel."""
        total: Counter[str] = Counter()
        for (entry, _), count in self.lines().items():
            total[entry] += count
        return total

    def lines(self) -> Counter[tuple[str, str]]:
        """The same by kernel and line of the sources."""
        total: Counter[tuple[str, str]] = Counter()
        for machine, before in self._before.items():
            counted = zip(machine.program.origin, machine.executed(), before, strict=True)
            for instruction, now, then in counted:
                total[machine.program.entry.name, instruction.source] += now - then
        return total
