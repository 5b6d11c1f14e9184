"""Fixtures for all tests: what runs over every backend takes ``backend``."""

import pytest
import torch

from diff3r_plugin.render import BACKENDS, available_backends


@pytest.fixture(params=sorted(set(BACKENDS) - {"gsplat"}))  # which renders on GPUs only; see render/conftest.py
def backend(request) -> str:
    if request.param not in available_backends():
        pytest.skip(f"backend {request.param} cannot run here")
    return request.param


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
