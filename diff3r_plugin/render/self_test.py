"""Do the GPU kernels compute what they should on this device? Each is compared with the reference before it is used.

That a module compiles and loads does not mean that it runs, or that it computes the right numbers. So at first use
every kernel runs on scenes of two tiles, against the ``torch`` renderer in float64 on the CPU. The modules that launch
kernels add the checks of these to :data:`CHECKS`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache as once
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading import cache
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer
from diff3r_plugin.views import Views

LIMIT = 1e-3
"""Relative deviation from which a kernel is wrong. In float32 they are within 1e-4 of the reference, as is gsplat with
its fast mathematics; a wrong formula or a lost block is off by 1e-2 and more."""

GAUSSIANS, WIDTH, HEIGHT = 70, 32, 16
"""More than a block of threads; two tiles."""


Moved = TypeVar("Moved", Tensor, Gaussians, Views)


class SelfTestError(RuntimeError):
    """Kernels do not run on a device, or compute something else there."""


@dataclass(frozen=True)
class Case:
    """What kernels are tried on, and with; numbers that float32 holds exactly, in float64 on the CPU.

    Args:
        scene: Two scenes of wide and faint Gaussians, so that no pixel is near a threshold.
        views: A camera for each.
        tangent: A direction in which the scenes change.
        cotangent: Of the images; ``[2, 1, 3, H, W]``.
        pixel_weights: ``[2, 1, H, W]``.
        rasterizer: What is tried.
        device: Where.
    """

    scene: Gaussians
    views: Views
    tangent: Gaussians
    cotangent: Float[Tensor, "B V 3 H W"]
    pixel_weights: Float[Tensor, "B V H W"]
    rasterizer: Rasterizer
    device: torch.device

    def put(self, value: Moved) -> Moved:
        """A tensor, Gaussians or Views on the device in what it computes in."""
        return value.to(self.device, self.rasterizer.dtype)


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: What is computed.
        kernels: Those that make it.
        pairs: Runs them; what they gave and what the reference gives.
    """

    name: str
    kernels: tuple[str, ...]
    pairs: Callable[[Case], Iterable[tuple[Tensor, Tensor]]]


CHECKS: list[Check] = []
"""All checks."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Args:
        name, kernels: Of the check.
        deviation: Relative to the reference, the largest of all tensors.
        seconds: It took.
        error: Why it did not run, if so.
    """

    name: str
    kernels: tuple[str, ...]
    deviation: float
    seconds: float
    error: str | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and self.deviation <= LIMIT

    def __str__(self) -> str:
        said = self.error or f"deviates by {self.deviation:.1e}"
        return f"{self.name} ({', '.join(self.kernels)}): {said}, {1e3 * self.seconds:.0f} ms"


def run(rasterizer: Rasterizer, device: torch.device, bases: int) -> list[Outcome]:
    """All checks, for scenes of so many spherical harmonics.

    Args:
        rasterizer: What is tried.
        device: Where.
        bases: 1, 4, 9, 16 or 25.
    """
    case = _case(rasterizer, device, bases)
    return [_outcome(check, case) for check in CHECKS]


def require(rasterizer: Rasterizer, device: torch.device, bases: int, build: str) -> list[Outcome]:
    """The outcomes of all checks, which have passed: now, or earlier on such a device.

    Args:
        rasterizer, device, bases: As for :func:`run`.
        build: All that the outcome depends on: device, driver, sources, compilers.

    Raises:
        SelfTestError: naming the checks that fail; they run again in the next process.
    """
    digest = hashlib.sha256(repr((build, bases, LIMIT, [(c.name, c.kernels) for c in CHECKS])).encode()).hexdigest()

    def make(target: Path) -> None:
        outcomes = run(rasterizer, device, bases)
        failed = [outcome for outcome in outcomes if not outcome.passed]
        if failed:
            raise SelfTestError(
                f"the GPU kernels do not compute on {device} what they should ({len(failed)} of {len(outcomes)} checks "
                f"fail): {'; '.join(map(str, failed[:3]))}. `diff3r doctor --gpu` shows all."
            )
        target.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))

    try:
        path = cache.provide(f"self_test_{digest[:16]}.json", make)
    except cache.BuildError as error:
        raise SelfTestError(str(error)) from error
    return read(path.read_text())


def read(text: str) -> list[Outcome]:
    """Outcomes that were written down."""
    return [Outcome(**{**entry, "kernels": tuple(entry["kernels"])}) for entry in json.loads(text)]


def relative(found: Tensor, expected: Tensor) -> float:
    """How far a tensor is from another, relative to that one; infinite where it is not finite."""
    found, expected = found.detach().double().cpu(), expected.detach().double()
    deviation = float((found - expected).norm() / expected.norm().clamp_min(1e-12))
    return deviation if deviation == deviation else float("inf")


def _outcome(check: Check, case: Case) -> Outcome:
    started = time.perf_counter()
    try:
        deviation = max(relative(found, expected) for found, expected in check.pairs(case))
        return Outcome(check.name, check.kernels, deviation, time.perf_counter() - started)
    except Exception as error:  # a broken device may raise anything
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Outcome(check.name, check.kernels, float("inf"), time.perf_counter() - started, reason)


def _case(rasterizer: Rasterizer, device: torch.device, bases: int) -> Case:
    return Case(*_inputs(bases), rasterizer, device)


@once
def _inputs(bases: int) -> tuple[Gaussians, Views, Gaussians, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(bases)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    B, N = 2, GAUSSIANS
    # Depths far apart, in an order of their own: sorting must not depend on rounding.
    depths = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)]).double() * 0.05 + 4
    means = torch.cat([0.3 * random(B, N, 2), depths[..., None]], -1)
    factor = 3.2 * torch.eye(3, dtype=torch.float64) + 0.15 * random(B, N, 3, 3)
    scene = Gaussians(means, factor @ factor.mT, uniform(0.08, 0.12, B, N), 0.3 * random(B, N, 3, bases))
    tangent = Gaussians(0.1 * random(B, N, 3), _symmetric(random(B, N, 3, 3)), random(B, N), random(B, N, 3, bases))
    cameras = torch.eye(4, dtype=torch.float64).repeat(B, 1, 1, 1)
    cameras[:, :, :3, 3] = 0.05 * random(B, 1, 3)
    K = torch.tensor([[WIDTH, 0, WIDTH / 2], [0, WIDTH, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    views = Views(cameras, K.expand(B, 1, 3, 3), image_size=(HEIGHT, WIDTH))
    cotangent, weights = random(B, 1, 3, HEIGHT, WIDTH), uniform(0.2, 1.0, B, 1, HEIGHT, WIDTH)
    exact = [value.to(torch.float32).to(torch.float64) for value in (scene, views, tangent, cotangent, weights)]
    return exact[0], exact[1], exact[2], exact[3], exact[4]  # type: ignore[return-value]


def _symmetric(matrix: Tensor) -> Tensor:
    return matrix + matrix.mT
