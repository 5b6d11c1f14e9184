"""Tests of renderers also run over the GPU backend: its kernels on this CPU (slowly, so only here), and on a GPU."""

import on_device
import pytest
from conftest import ready

from diff3r_plugin.render import BACKENDS

ON_DEVICES = [on_device.NAME] if on_device.device() is not None else []


@pytest.fixture(params=["gsplat_on_cpu", "kernels_on_cpu", *ON_DEVICES, *sorted(set(BACKENDS) - {"gsplat"})])
def backend(request) -> str:
    return ready(request.param, request)
