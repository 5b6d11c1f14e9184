"""The compiled kernels mean the same numbers as the Python side, and their headers also compile for GPUs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from diff3r_plugin.kernels import library
from diff3r_plugin.kernels.build import SOURCE_DIRECTORY, openmp_runtime
from diff3r_plugin.render import semantics

NVCC = shutil.which("nvcc") or next((str(p) for p in [Path("/usr/local/cuda/bin/nvcc")] if p.exists()), None)


@pytest.fixture
def kernels() -> library.Library:
    loaded = library.load()
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


DEVICE_CODE = """
#include "dual.h"
#include "harmonics.h"
#include "pixel_math.h"
#include "splat_math.h"
using namespace diff3r;
template <class S> __global__ void everything(const Real<S>* in, Real<S>* out) {
    S number[16];
    for (int i = 0; i < 16; ++i) number[i] = S(in[i]);
    Camera<S> camera;
    for (int i = 0; i < 9; ++i) camera.rotation[i] = number[i];
    for (int i = 0; i < 3; ++i) camera.translation[i] = number[i];
    camera.fx = camera.fy = in[0], camera.cx = camera.cy = in[1], camera.near_plane = in[2], camera.far_plane = in[3];
    camera.x_low = camera.y_low = in[4], camera.x_high = camera.y_high = in[5];
    Projection<S> p;
    project(number, number + 3, camera, p);
    ProjectionCotangent<S> back;
    project_transposed(number, camera, p, p.x, p.y, p.a, p.b, p.c, true, back);
    S offset[3], direction[3], basis[MAX_BASES];
    offset_from_camera(number, camera, offset);
    S inverse = normalize(offset, direction);
    normalize_transposed(direction, inverse, offset, back.mean);
    harmonic_basis(MAX_BASES, direction[0], direction[1], direction[2], basis);
    Coverage<S> covered = cover(Footprint<S>{p.x, p.y, p.a, p.b, p.c, number[9]}, number[10], number[11]);
    S ray = S(Real<S>(1));
    Blend<S> step = blend(ray, covered.alpha, covered.drawn);
    S pull = log_alpha_derivative(step.weight, covered.alpha, basis[3], basis[24]);
    footprint_cotangent(p.a, p.b, p.c, number, number + 6);
    out[0] = value(pull + number[6] + back.rotation[0] + back.mean[0] + ray);
}
template __global__ void everything<float>(const float*, float*);
template __global__ void everything<double>(const double*, double*);
template __global__ void everything<Dual<float>>(const float*, float*);
"""


@pytest.mark.skipif(NVCC is None, reason="no nvcc here")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_mathematics_compiles_for_gpus(tmp_path, architecture):
    source = tmp_path / "everything.cu"
    source.write_text(DEVICE_CODE)
    command = [NVCC, "-std=c++17", f"-arch={architecture}", "-I", str(SOURCE_DIRECTORY), "-cubin", str(source)]
    result = subprocess.run([*command, "-o", str(tmp_path / "out.cubin")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr.lower(), result.stderr
