"""Fixtures for all tests: what runs over every backend takes ``backend``."""

import os

import gsplat_on_cpu
import on_device
import pytest
import torch
from ptx_on_cpu import backend as ptx

from diff3r_plugin import config
from diff3r_plugin.linearized import CHARTED
from diff3r_plugin.render import BACKENDS, available_backends


@pytest.fixture(params=sorted(set(BACKENDS) - {"gsplat"}))  # which renders on GPUs only; see render/conftest.py
def backend(request) -> str:
    return ready(request.param, request)


def ready(name: str, request) -> str:
    """A backend's name, once it can be used in this test; skips where it cannot work here."""
    if name in gsplat_on_cpu.BACKENDS or name == on_device.NAME:
        return request.getfixturevalue(f"{name}_backend")
    if name not in available_backends():
        pytest.skip(f"backend {name} cannot run here")
    return name


def _known(name: str, module, monkeypatch) -> str:
    """Known for one test wherever backends are chosen."""
    monkeypatch.setitem(BACKENDS, name, module)
    monkeypatch.setattr(config, "BACKENDS", (*config.BACKENDS, name))
    if hasattr(module, "charted"):
        monkeypatch.setitem(CHARTED, name, module.charted)
    return name


def _on_cpu(name: str):
    def fixture(monkeypatch) -> str:
        if gsplat_on_cpu.library() is None:
            pytest.skip("no g++ here to compile the GPU kernels for a CPU")
        return _known(name, gsplat_on_cpu.BACKENDS[name], monkeypatch)

    return pytest.fixture(fixture, name=f"{name}_backend")


gsplat_on_cpu_backend = _on_cpu("gsplat_on_cpu")
kernels_on_cpu_backend = _on_cpu("kernels_on_cpu")


@pytest.fixture
def ptx_on_cpu_backend(monkeypatch):
    """The GPU kernels' PTX on this CPU, checked, in an order that ``DIFF3R_PTX_SEED`` changes."""
    reason = ptx.missing()
    if reason is not None:
        pytest.skip(reason)
    with ptx.running(seed=int(os.environ.get("DIFF3R_PTX_SEED", "0"))) as (_, rasterizer):
        yield _known(on_device.PTX, ptx.backend(rasterizer), monkeypatch)


@pytest.fixture
def on_device_backend(request, monkeypatch) -> str:
    """The GPU backend on a GPU, in float32, given and giving back what tests on a CPU compute with."""
    if on_device.emulation() == "ptx":
        request.getfixturevalue("ptx_on_cpu_backend")
    module = on_device.module()
    if module is None:
        pytest.skip("no GPU here")
    return _known(on_device.NAME, module, monkeypatch)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
