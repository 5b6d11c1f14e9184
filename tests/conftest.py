"""Fixtures for all tests: what runs over every backend takes ``backend``."""

import gsplat_on_cpu
import pytest
import torch

from diff3r_plugin import config
from diff3r_plugin.linearized import CHARTED
from diff3r_plugin.render import BACKENDS, available_backends

GSPLAT_ON_CPU = "gsplat_on_cpu"


@pytest.fixture(params=sorted(set(BACKENDS) - {"gsplat"}))  # which renders on GPUs only; see render/conftest.py
def backend(request) -> str:
    if request.param not in available_backends():
        pytest.skip(f"backend {request.param} cannot run here")
    return request.param


@pytest.fixture
def gsplat_backend_on_cpu(monkeypatch) -> str:
    """The GPU backend with its kernels on this CPU: its name, known for one test wherever backends are chosen."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    monkeypatch.setitem(BACKENDS, GSPLAT_ON_CPU, gsplat_on_cpu.BACKEND)
    monkeypatch.setitem(CHARTED, GSPLAT_ON_CPU, gsplat_on_cpu.charted)
    monkeypatch.setattr(config, "BACKENDS", (*config.BACKENDS, GSPLAT_ON_CPU))
    return GSPLAT_ON_CPU


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
