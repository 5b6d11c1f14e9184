"""The GPU backend on a device, for tests that compute in float64 on a CPU: it rounds what it is given to float32.

With ``DIFF3R_EMULATE_GPU=1`` and without a device its kernels run on the CPU, in float32 as on a device: what tests ask
of a device can so be tried without one. With ``DIFF3R_EMULATE_GPU=ptx`` it is their PTX that runs (``ptx_on_cpu``).
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import gsplat_on_cpu
import torch
from torch import Tensor

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import BACKENDS, GaussianGram, Linearization, gsplat_backend

NAME = "on_device"

PTX = "ptx_on_cpu"
"""The backend that runs PTX, where a test has it."""

ROUGH = 1e-4
"""Relative error in float32 on scenes that are clear of all thresholds. The kernels are within 2e-6 there; gsplat is
compiled with fast mathematics (approximate exp, division and square root). Wrong formulas are off by 1e-2 and more."""

CROSSING = 1e-2
"""On other scenes: a float32 alpha may fall on the other side of 1/255 than the float64 one, which moves a pixel."""


def limit(backend: str, exact: float, rough: float = ROUGH) -> float:
    """What an error may be with a backend: ``exact`` in float64, ``rough`` on a device."""
    return rough if backend == NAME else exact


def close(backend: str, found: Tensor, expected: Tensor, rtol: float = 1e-7, atol: float = 1e-7) -> None:
    """``assert_close``; on a device with a tolerance relative to the largest number."""
    if backend == NAME:
        rtol, atol = ROUGH, ROUGH * float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def device() -> torch.device | None:
    """Where the backend computes; None if it cannot."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu") if emulation() and gsplat_on_cpu.library() else None


def emulation() -> str:
    """How a device is emulated where there is none; empty if not at all."""
    return os.environ.get("DIFF3R_EMULATE_GPU", "")


def module() -> SimpleNamespace | None:
    """The backend, to be put among the renderer's; None where there is no device."""
    if device() is None:
        return None
    return SimpleNamespace(
        NEEDS=gsplat_backend.NEEDS,
        FOLLOWED_BY_AUTOGRAD=False,
        RUNS_ON=None,
        linearize=lambda gaussians, views: _OnDevice(gaussians, views),
        is_available=lambda device="cpu", bases=None: True,
    )


def linearize(gaussians: Gaussians, views: Views) -> Linearization:
    """Of a scene in float32 on the device, as the backend does it there."""
    if torch.cuda.is_available():
        return gsplat_backend.linearize(gaussians, views)
    if emulation() == "ptx":
        return BACKENDS[PTX].linearize(gaussians, views)
    return gsplat_on_cpu.BACKENDS["kernels_on_cpu"].linearize(gaussians, views)


def put(value: Any) -> Any:
    """A tensor, Gaussians or Views on the device in float32."""
    return value.to(device(), torch.float32)


class _OnDevice:
    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        self._dtype, self._lin = gaussians.dtype, linearize(put(gaussians), put(views))
        self.image = self._back(self._lin.image)

    def _back(self, value: Any) -> Any:
        return value.to("cpu", self._dtype)

    def jvp(self, tangent: Gaussians, world_to_camera: Tensor | None = None) -> Tensor:
        return self._back(self._lin.jvp(put(tangent), None if world_to_camera is None else put(world_to_camera)))

    def vjp(self, cotangent: Tensor) -> Gaussians:
        return self._back(self._lin.vjp(put(cotangent)))

    def vjp_cameras(self, cotangent: Tensor) -> tuple[Gaussians, Tensor]:
        gradient, cameras = self._lin.vjp_cameras(put(cotangent))
        return self._back(gradient), self._back(cameras)

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Tensor) -> Gaussians:
        return self._back(self._lin.gauss_newton_product(put(tangent), put(pixel_weights)))

    def gram(self, pixel_weights: Tensor) -> GaussianGram:
        gram = self._lin.gram(put(pixel_weights))
        return GaussianGram(self._back(gram.core), self._back(gram.sh_rest))
