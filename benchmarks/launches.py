"""How often the host launches work on a GPU and waits for it, counted without one: ``python -m benchmarks.launches``.

The package runs on tensors that say they are on cuda:0 (``benchmarks.pretended``), without gsplat. Options:
``--json FILE`` also writes the table; ``--where ROW`` lists what one row counts by line of the checkout.
Counts do not depend on the sizes; a Gauss–Newton step that fails in some scenes alone would linearize once more.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.pretended import Counts, Ledger, pretended_devices
from benchmarks.scenes import predicted_room
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.linalg import pcg
from diff3r_plugin.objective import LinearizedObjective, Objective

ROOT = Path(__file__).resolve().parents[1]
SIZE = 8
"""px: the kernels run on the CPU."""

ITERATIONS = 4
"""Of PCG by which a solve is longer than another; less than from one recomputed residual to the next."""

WITH_POSES = (*TTOConfig().groups, "poses")


def emulated() -> tuple[CudaKernels, Callable[[], int]]:
    """Our GPU kernels compiled for this CPU, and how many have been launched.

    Raises:
        SystemExit: without g++.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import gsplat_on_cpu
    finally:
        sys.path.pop(0)
    if gsplat_on_cpu.library() is None:
        raise SystemExit("benchmarks.launches runs the GPU kernels on the CPU, and needs g++ for that; none was found.")
    return gsplat_on_cpu.kernels(torch.float32), gsplat_on_cpu.launches


class Table:
    """Counts by what was computed, and the lines of the checkout that they come from.

    Args:
        ledger: Of the pretended devices that everything runs on.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.rows: dict[str, Counts] = {}
        self.lines: dict[str, dict[str, Counter[str]]] = {}

    def measure(self) -> Table:
        """Fill the table."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of gradients away from stationarity, which does not matter here
            for title, groups in {"": TTOConfig().groups, ", poses move": WITH_POSES}.items():
                self._products(title, groups)
                self._refinement(title, groups)
        return self

    def as_json(self) -> dict[str, dict[str, int]]:
        """As it is written to a file."""
        return {name: {"launches": counts.launches, **asdict(counts)} for name, counts in self.rows.items()}

    def _count(self, name: str, call: Callable[[], Any]) -> Any:
        before, lines = self._ledger.counts(), self._lines()
        result = call()
        self.rows[name] = self._ledger.counts() - before
        self.lines[name] = {kind: now - lines[kind] for kind, now in self._lines().items()}
        return result

    def _lines(self) -> dict[str, Counter[str]]:
        return {kind: Counter(getattr(self._ledger, kind)) for kind in ("operations", "waits", "allocations")}

    def _products(self, title: str, groups: tuple[str, ...]) -> None:
        scene, cameras = room()
        coordinates = Coordinates(scene, cameras, groups)
        theta = coordinates.encode(scene)
        objective = Objective(coordinates, cameras, theta, torch.full_like(theta, 0.1), None, "gsplat")
        objective.linearize(theta)  # what is made once is made

        def linearized() -> LinearizedObjective:
            lin = objective.linearize(theta)
            assert lin.gradient is not None
            return lin

        lin = self._count(f"linearization and gradient{title}", linearized)
        product, preconditioner = lin.system("jacobi")
        right = -lin.gradient

        def solve(iterations: int) -> None:
            pcg(product, right, preconditioner=preconditioner, max_iterations=iterations, tolerance=0.0)

        name = f"PCG iteration{title}"
        self._count(name, lambda: solve(ITERATIONS))
        fewer, lines = self.rows[name], self.lines[name]
        self._count(name, lambda: solve(2 * ITERATIONS))
        self.rows[name] = (self.rows[name] - fewer).each(ITERATIONS)
        self.lines[name] = {kind: now - lines[kind] for kind, now in self.lines[name].items()}

    def _refinement(self, title: str, groups: tuple[str, ...]) -> None:
        scene, cameras = room()
        leaf = scene.map(lambda t: t.clone().requires_grad_())
        layer = TTOLayer(TTOConfig(groups=groups))
        refined, _ = self._count(f"refinement{title}, forward", lambda: layer(leaf, cameras, 0.1))
        loss = sum((t * 0.5).sum() for t in refined.tensors())
        self._count(f"refinement{title}, backward", lambda: torch.autograd.grad(loss, leaf.tensors()))


def room() -> tuple[Gaussians, Views]:
    """A predicted room on a device that there is not."""
    gaussians, views = predicted_room(SIZE)
    return gaussians.to("cuda:0", torch.float32), views.to("cuda:0", torch.float32)


def measure() -> Table:
    """The table of this checkout."""
    with pretended_devices(*emulated()) as ledger:
        return Table(ledger).measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--where", help="list what a row of the table counts, by line of the checkout")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with pretended_devices(*emulated()) as ledger:
        table = Table(ledger).measure()
    print("| | launches | operations | kernels | allocations | waits |\n| --- | --- | --- | --- | --- | --- |")
    for name, counts in table.rows.items():
        numbers = (counts.launches, counts.operations, counts.kernels, counts.allocations, counts.waits)
        print(f"| {name} | {' | '.join(map(str, numbers))} |")
    if arguments.where is not None:
        for kind, lines in table.lines[arguments.where].items():
            print(f"\n{kind}:", *(f"{n:5d} {line}" for line, n in lines.most_common()), sep="\n")
    for finding, times in ledger.findings.items():
        print(f"\na device would refuse, {times} times: {finding}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table.as_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
