"""nvcc compiles the GPU kernels without warnings or spills, and what it cannot compile says why."""

import os
import re
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


SPILLED = 16
"""Bytes a thread that the assembler may spill for a register less and more threads; an array would be more."""


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_without_warnings_and_keep_their_numbers_in_registers(tmp_path, monkeypatch):
    """For two architectures, each kernel for every number of bases that it is made for."""
    _nvcc()
    command = " ".join(build_cuda.nvcc())
    said, made = tmp_path / "said", tmp_path / "made"
    made.mkdir()
    strict = "-Werror all-warnings -Xcompiler -Wall,-Werror,-Wno-unused-function -Xptxas -v"
    compiler = _script(tmp_path / "nvcc", f'exec {command} "$@" {strict} 2>> {said}\n', monkeypatch)
    dependent = units(of_bases=True)
    jobs = [(s, bases) for s in modules_cuda.sources() for bases in (BASES if s.stem in dependent else (0,))]

    def make(job) -> None:
        source, bases = job
        for target in ("sm_80", "sm_90"):
            compiler.compile(source, bases, target, made / f"{source.stem}_{bases}_{target}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, jobs))
    text = said.read_text()
    assert len(list(made.iterdir())) == 2 * len(jobs), text
    spilled = [int(size) for size in re.findall(r"(\d+) bytes spill stores", text)]
    assert len(spilled) >= 2 * len(jobs) and max(spilled) <= SPILLED, text


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
        [ "$1" = --list-gpu-arch ] && echo compute_50 compute_80 compute_89 compute_90 && exit 0
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
    with pytest.raises(BuildError, match=r"(?s)failed for sm_120.*unknown gpu sm_120.*NVRTC needs no toolkit"):
        compiler.compile(modules_cuda.sources()[0], 0, "sm_120", tmp_path / "out")


def test_a_device_newer_than_nvcc_gets_what_its_driver_can_finish(stand_in, tmp_path):
    assert stand_in.target((12, 0)) == "compute_90"
    stand_in.compile(modules_cuda.sources()[0], 0, "compute_90", tmp_path / "out")
    call = (tmp_path / "calls").read_text()
    assert "-arch=compute_90" in call and "-ptx" in call and "-cubin" not in call


def test_an_nvcc_that_does_not_say_what_it_knows_is_asked_for_the_device_itself():
    assert build_cuda.closest((9, 0), []) == "sm_90"
    with pytest.raises(BuildError, match=r"7\.5 and newer, and this device has 6\.1.*\$DIFF3R_NVCC"):
        build_cuda.closest((6, 1), [75, 80])


def test_a_host_compiler_that_nvcc_does_not_know_is_tried_all_the_same(tmp_path, monkeypatch):
    text = f"""
        [ "$1" = --version ] && exit 0
        echo "$@" >> {tmp_path}/calls
        case "$*" in *-allow-unsupported-compiler*) exit 0;; esac
        echo "#error -- unsupported GNU version! gcc versions later than 13 are not supported!" >&2; exit 1
        """
    compiler = _script(tmp_path / "nvcc", text, monkeypatch)
    compiler.compile(modules_cuda.sources()[0], 0, "sm_90", tmp_path / "out")
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("nvcc fatal   : Unsupported gpu architecture 'compute_120'", "older than the device"),
        ("nvcc fatal   : Value 'sm_120' is not defined for option 'gpu-architecture'", "older than the device"),
        (
            "error: #error -- unsupported GNU version! gcc versions later than 12 are not supported!",
            "-ccbin g\\+\\+-12",
        ),
        ('math_functions.h(629): error: exception specification is incompatible with that of "cospi"', "C library"),
        ("nvcc fatal   : Failed to preprocess host compiler properties.", "install g\\+\\+"),
        ("sh: 1: gcc: not found", "install g\\+\\+"),
        ("fatal error: cuda_runtime.h: No such file or directory", "cuda-cudart-dev"),
        ("fatal error: error writing to /tmp/x.o: No space left on device", "DIFF3R_CACHE_DIR"),
        ("Segmentation fault", "NVRTC needs no toolkit"),
    ],
)
def test_the_hint_is_chosen_from_what_nvcc_says(said, advice):
    assert re.search(advice, build_cuda.hint(said))


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
