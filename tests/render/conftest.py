"""Tests of renderers also run over the GPU backend, whose own kernels run on this CPU (slowly, so only here)."""

import gsplat_on_cpu
import pytest

from diff3r_plugin import config
from diff3r_plugin.render import BACKENDS, available_backends

GSPLAT_ON_CPU = "gsplat_on_cpu"


@pytest.fixture
def gsplat_backend_on_cpu(monkeypatch) -> str:
    """Its name, known to the renderer and to ``TTOConfig`` for one test."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    monkeypatch.setitem(BACKENDS, GSPLAT_ON_CPU, gsplat_on_cpu.BACKEND)
    monkeypatch.setattr(config, "BACKENDS", (*config.BACKENDS, GSPLAT_ON_CPU))
    return GSPLAT_ON_CPU


@pytest.fixture(params=[GSPLAT_ON_CPU, *sorted(set(BACKENDS) - {"gsplat"})])
def backend(request) -> str:
    if request.param == GSPLAT_ON_CPU:
        return request.getfixturevalue("gsplat_backend_on_cpu")
    if request.param not in available_backends():
        pytest.skip(f"backend {request.param} cannot run here")
    return request.param
