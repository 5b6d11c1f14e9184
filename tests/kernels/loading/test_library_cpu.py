"""The compiled kernels mean the same numbers as the Python side."""

import os

import pytest

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.kernels.loading.build_cpu import openmp_runtime
from diff3r_plugin.render import semantics


@pytest.fixture
def kernels() -> library_cpu.Library:
    loaded = library_cpu.load()
    if loaded is None:
        pytest.skip("no compiler here")
    return loaded


def test_constants_are_those_of_the_python_side(kernels):
    public = {name: value for name, value in vars(semantics).items() if name.isupper()}
    assert kernels.constants == public


def test_kernels_share_pytorchs_threads(kernels):
    """A second OpenMP library in the process would fight with PyTorch's for the cores."""
    if openmp_runtime() is None:
        pytest.skip("PyTorch uses no OpenMP here")
    with open("/proc/self/maps") as maps:
        loaded = {os.path.realpath(line.split()[-1]) for line in maps if "libgomp" in line or "libiomp5" in line}
    assert len(loaded) == 1, loaded
