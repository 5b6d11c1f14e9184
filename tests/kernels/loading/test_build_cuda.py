"""The GPU kernels compile for devices, and what cannot be compiled says why."""

import ctypes
import os

import pytest

from diff3r_plugin.kernels.loading import build_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path))


def _require_nvcc() -> None:
    try:
        build_cuda.nvcc()
    except BuildError:
        pytest.skip("no nvcc here: the GPU kernels are not compiled")


def test_the_kernels_compile_for_gpus_without_warnings_or_spills_and_load_without_a_device(monkeypatch):
    """For two architectures, of which the second one's assembler gets what was compiled for the first."""
    _require_nvcc()
    strict = "-Werror all-warnings -Xcompiler -Wall,-Werror,-Wno-unused-function -Xptxas --warn-on-spills"
    monkeypatch.setenv("DIFF3R_NVCCFLAGS", f"{strict} -gencode arch=compute_80,code=sm_90")
    path = build_cuda.library_path((8, 0))
    assert "sm_80" in path.name
    assert path == build_cuda.library_path((8, 0)), "compiled again"
    kernels = CudaKernels(ctypes.CDLL(str(path)))
    with pytest.raises(RuntimeError, match=r"could not start: .+ \(2\)"):
        kernels.check(2)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An nvcc that notes its arguments and writes what it was asked for."""
    script = tmp_path / "nvcc"
    script.write_text(
        f"""#!/bin/sh
        [ "$1" = --version ] && echo nvcc 1 && exit 0
        echo "$@" >> {tmp_path}/calls
        while [ "$1" != -o ]; do shift; done
        echo made > "$2"
        """
    )
    script.chmod(0o755)
    monkeypatch.setenv("DIFF3R_NVCC", str(script))
    return tmp_path / "calls"


def test_every_architecture_gets_its_own_library(stand_in):
    paths = {build_cuda.library_path(capability) for capability in ((8, 0), (8, 9), (9, 0))}
    assert len(paths) == 3
    assert "-arch=sm_89" in stand_in.read_text()


def test_a_device_that_is_too_old_is_refused_with_a_cure(stand_in):
    with pytest.raises(BuildError, match=r"6\.0 or newer, this device has 5\.2.*backend='torch'"):
        build_cuda.library_path((5, 2))


def test_an_nvcc_that_fails_is_quoted_with_the_architecture(tmp_path, monkeypatch):
    script = tmp_path / "nvcc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho unknown gpu sm_120 >&2; exit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("DIFF3R_NVCC", str(script))
    with pytest.raises(BuildError, match=r"(?s)failed for sm_120.*unknown gpu sm_120.*newer CUDA toolkit"):
        build_cuda.library_path((12, 0))


def test_a_missing_nvcc_says_where_it_was_looked_for(monkeypatch):
    monkeypatch.setenv("DIFF3R_NVCC", "/nowhere/nvcc")
    with pytest.raises(BuildError, match=r"\$DIFF3R_NVCC.*/nowhere/nvcc"):
        build_cuda.nvcc()


def test_nvcc_is_found_in_cuda_home(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "bin" / "nvcc", 0o755)
    monkeypatch.delenv("DIFF3R_NVCC", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build_cuda.nvcc() == [str(tmp_path / "bin" / "nvcc")]
