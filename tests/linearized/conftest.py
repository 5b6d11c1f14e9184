"""The backends that apply charts within their kernels."""

import pytest

from diff3r_plugin.render import available_backends


@pytest.fixture(params=["native", "gsplat_on_cpu"])
def compiled_backend(request) -> str:
    if request.param == "gsplat_on_cpu":
        return request.getfixturevalue("gsplat_backend_on_cpu")
    if request.param not in available_backends():
        pytest.skip("no C++ compiler here")
    return request.param
