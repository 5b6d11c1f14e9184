"""Fixtures for all tests: what runs over every backend takes ``backend``."""

import gsplat_on_cpu
import pytest
import torch

from diff3r_plugin import config
from diff3r_plugin.render import BACKENDS, available_backends

GSPLAT_ON_CPU = "gsplat_on_cpu"
"""The GPU backend's own kernels, run on this CPU."""


@pytest.fixture(params=[GSPLAT_ON_CPU, *sorted(set(BACKENDS) - {"gsplat"})])
def backend(request, monkeypatch) -> str:
    if request.param == GSPLAT_ON_CPU:
        monkeypatch.setitem(BACKENDS, GSPLAT_ON_CPU, gsplat_on_cpu.BACKEND)
        monkeypatch.setattr(config, "BACKENDS", (*config.BACKENDS, GSPLAT_ON_CPU))
    if request.param not in available_backends():
        pytest.skip(f"backend {request.param} cannot run here")
    return request.param


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
