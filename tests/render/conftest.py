"""Tests of renderers also run over the GPU backend, whose own kernels run on this CPU (slowly, so only here)."""

import pytest

from diff3r_plugin.render import BACKENDS, available_backends


@pytest.fixture(params=["gsplat_on_cpu", *sorted(set(BACKENDS) - {"gsplat"})])
def backend(request) -> str:
    if request.param == "gsplat_on_cpu":
        return request.getfixturevalue("gsplat_backend_on_cpu")
    if request.param not in available_backends():
        pytest.skip(f"backend {request.param} cannot run here")
    return request.param
