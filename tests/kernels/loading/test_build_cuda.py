"""nvcc compiles the GPU kernels without warnings or spills, and what it cannot compile says why."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from diff3r_plugin.kernels.loading import build_cuda, modules_cuda
from diff3r_plugin.kernels.loading.build_cuda import Nvcc
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.kernel_table import BASES, units


def _nvcc() -> Nvcc:
    try:
        return Nvcc(build_cuda.nvcc())
    except BuildError:
        pytest.skip("no nvcc here: the GPU kernels are not compiled")


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_without_warnings_or_spills(tmp_path, monkeypatch):
    """For two architectures, of which the second one's assembler gets what was compiled for the first."""
    compiler = _nvcc()
    strict = "-Werror all-warnings -Xcompiler -Wall,-Werror,-Wno-unused-function -Xptxas --warn-on-spills"
    monkeypatch.setenv("DIFF3R_NVCCFLAGS", strict)
    dependent = units(of_bases=True)
    jobs = [(s, bases) for s in modules_cuda.sources() for bases in (BASES if s.stem in dependent else (0,))]

    def make(job) -> None:
        source, bases = job
        for target in ("sm_80", "sm_90"):
            compiler.compile(source, bases, target, tmp_path / f"{source.stem}_{bases}_{target}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, jobs))
    assert len(list(tmp_path.iterdir())) == 2 * len(jobs)


def _script(path, text: str, monkeypatch) -> Nvcc:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    monkeypatch.setenv("DIFF3R_NVCC", str(path))
    (compiler,), _ = build_cuda.compilers()
    return compiler


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Nvcc:
    """An nvcc that notes its arguments and writes what it was asked for."""
    text = f"""
        [ "$1" = --version ] && echo "Cuda compilation tools, release 12.4, V12.4.1" && exit 0
        echo "$@" >> {tmp_path}/calls
        while [ "$1" != -o ]; do shift; done
        echo made > "$2"
        """
    return _script(tmp_path / "nvcc", text, monkeypatch)


def test_a_unit_is_compiled_for_its_device_and_its_harmonics(stand_in, tmp_path):
    source = modules_cuda.sources()[0]
    stand_in.compile(source, 9, "sm_89", tmp_path / "out")
    assert stand_in.name == "nvcc 12.4" and stand_in.target((8, 9)) == "sm_89"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "-arch=sm_89" in call and "-DDIFF3R_BASES=9" in call and "-cubin" in call and str(source) in call


def test_flags_are_part_of_the_key(stand_in, monkeypatch):
    monkeypatch.setenv("DIFF3R_NVCCFLAGS", "-lineinfo")
    assert Nvcc(build_cuda.nvcc()).key != stand_in.key


def test_an_nvcc_that_fails_is_quoted_with_the_architecture(tmp_path, monkeypatch):
    text = '[ "$1" = --version ] && exit 0\necho unknown gpu sm_120 >&2; exit 1\n'
    compiler = _script(tmp_path / "nvcc", text, monkeypatch)
    with pytest.raises(BuildError, match=r"(?s)failed for sm_120.*unknown gpu sm_120.*newer CUDA toolkit"):
        compiler.compile(modules_cuda.sources()[0], 0, "sm_120", tmp_path / "out")


def test_a_missing_nvcc_says_where_it_was_looked_for(monkeypatch):
    monkeypatch.setenv("DIFF3R_NVCC", "/nowhere/nvcc")
    usable, (reason,) = build_cuda.compilers()
    assert not usable and "$DIFF3R_NVCC" in reason and "/nowhere/nvcc" in reason


def test_nvcc_is_found_in_cuda_home(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "bin" / "nvcc", 0o755)
    monkeypatch.delenv("DIFF3R_NVCC", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build_cuda.nvcc() == [str(tmp_path / "bin" / "nvcc")]
