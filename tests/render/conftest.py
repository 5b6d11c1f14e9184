"""Tests of renderers also run over the GPU backend: its kernels on this CPU (slowly, so only here), and on a GPU."""

import pytest
from conftest import ready

from diff3r_plugin.render import BACKENDS


@pytest.fixture(params=["gsplat_on_cpu", "kernels_on_cpu", "on_device", *sorted(set(BACKENDS) - {"gsplat"})])
def backend(request) -> str:
    return ready(request.param, request)
