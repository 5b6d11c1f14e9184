"""The backends that apply charts within their kernels."""

import pytest
from conftest import ready


@pytest.fixture(params=["native", "kernels_on_cpu"])
def compiled_backend(request) -> str:
    return ready(request.param, request)
