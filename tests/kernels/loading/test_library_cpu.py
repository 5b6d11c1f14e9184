"""The compiled kernels mean the same numbers as the Python side."""

import subprocess
import sys

import pytest

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.kernels.loading.build_cpu import openmp_runtime, pytorchs_openmp
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
    # in a process of its own: other tests load packages that bring one (pycolmap)
    program = (
        "import os\n"
        "from diff3r_plugin.kernels.loading import library_cpu\n"
        "assert library_cpu.load() is not None\n"
        "for line in open('/proc/self/maps'):\n"
        "    if 'libgomp' in line or 'libiomp5' in line: print(os.path.realpath(line.split()[-1]))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.splitlines())
    assert len(loaded) == 1, loaded


def test_kernels_are_linked_with_pytorchs_openmp_and_no_other_packages(tmp_path):
    lines = []
    for number, name in enumerate(("pycolmap.libs/libgomp-e985.so.1.0.0", "torch/lib/libgomp.so.1", "torch/lib/x.so")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        lines.append(f"7f{number}000-7f{number}fff r-xp 00000000 08:01 {number}    {path}\n")
    torch_folder = str(tmp_path / "torch")
    assert pytorchs_openmp(lines, torch_folder) == str(tmp_path / "torch/lib/libgomp.so.1")
    assert pytorchs_openmp(lines[:1], torch_folder) == str(tmp_path / "pycolmap.libs/libgomp-e985.so.1.0.0")
    assert pytorchs_openmp(lines[2:], torch_folder) is None
