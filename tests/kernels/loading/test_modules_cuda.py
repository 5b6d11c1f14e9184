"""Modules of the GPU kernels: made once, by the first compiler that succeeds, and what cannot be made says why."""

import json
import logging
import os
from pathlib import Path

import pytest

from diff3r_plugin.kernels.loading import build_cuda, build_nvrtc, modules_cuda, nvrtc_process
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.driver import DriverError
from diff3r_plugin.kernels.loading.kernel_table import units
from diff3r_plugin.kernels.loading.modules_cuda import Modules


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class StandIn:
    """A compiler that notes what it is asked for."""

    def __init__(self, key: str, complaint: str | None = None) -> None:
        self.name = self.key = key
        self.complaint = complaint
        self.compiled: list[tuple[str, int, str]] = []

    def target(self, capability):
        return f"sm_{capability[0]}{capability[1]}"

    def compile(self, source: Path, bases: int, target: str, output: Path) -> None:
        self.compiled.append((source.stem, bases, target))
        if self.complaint:
            raise BuildError(self.complaint)
        output.write_bytes(f"{self.key} {source.stem} {bases} {target}".encode())


def test_units_are_compiled_together_for_the_harmonics_of_the_scene_alone():
    compiler = StandIn("first")
    modules = Modules((8, 9), [compiler])
    assert modules("pcg", 0) == b"first pcg 0 sm_89"
    independent = {(unit, 0, "sm_89") for unit in units(of_bases=False)}
    assert set(compiler.compiled) == independent and len(compiler.compiled) == len(independent)
    assert modules("project", 9) == b"first project 9 sm_89"
    dependent = {(unit, 9, "sm_89") for unit in units(of_bases=True)}
    assert set(compiler.compiled) == independent | dependent
    modules("splat_gram", 9)
    assert len(compiler.compiled) == len(independent) + len(dependent)


def test_modules_of_another_process_are_taken_from_the_cache_without_a_word(caplog):
    Modules((9, 0), [StandIn("first")])("pcg", 0)
    caplog.clear()
    again = StandIn("first")
    with caplog.at_level(logging.WARNING):
        assert Modules((9, 0), [again])("pcg", 0) == b"first pcg 0 sm_90"
    assert not again.compiled and not caplog.records


def test_devices_and_compilers_get_modules_of_their_own():
    for compiler, capability in ((StandIn("a"), (8, 0)), (StandIn("a"), (9, 0)), (StandIn("b"), (9, 0))):
        Modules(capability, [compiler])("pcg", 0)
        assert ("pcg", 0) in [made[:2] for made in compiler.compiled]


def test_the_next_compiler_takes_over_and_is_not_asked_again_where_all_have_failed():
    first, second = StandIn("first", "unknown flag"), StandIn("second")
    assert Modules((9, 0), [first, second])("pcg", 0) == b"second pcg 0 sm_90"
    failing = StandIn("second", "no space")
    with pytest.raises(BuildError, match=r"(?s)no NVRTC.*first: unknown flag.*second: no space"):
        Modules((8, 0), [first, failing], ["no NVRTC"])("pcg", 0)


def test_a_driver_that_does_not_take_a_module_gets_the_next_compilers():
    """An nvcc newer than the driver, say."""

    def accept(image: bytes) -> None:
        if image.startswith(b"too new"):
            raise DriverError("the GPU's driver refuses a kernel of diff3r: a PTX JIT compilation failed")

    newer, older = StandIn("too new"), StandIn("older")
    modules = Modules((9, 0), [newer, older], accept=accept)
    assert modules("pcg", 0) == b"older pcg 0 sm_90" and modules("project", 4) == b"older project 4 sm_90"
    assert not any(bases for _, bases, _ in newer.compiled), "asked again"
    assert Modules((9, 0), [], accept=accept)("pcg", 0) == b"older pcg 0 sm_90", "of those that are in the cache"
    with pytest.raises(BuildError, match=r"too new: the GPU's driver refuses"):
        Modules((8, 0), [StandIn("too new")], accept=accept)("pcg", 0)


def test_without_a_compiler_a_module_that_another_left_will_do():
    """Nodes of a cluster, say, whose home directory the login node compiled into."""
    Modules((9, 0), [StandIn("elsewhere")])("pcg", 0)
    assert Modules((9, 0), [], ["no nvcc found"])("pcg", 0) == b"elsewhere pcg 0 sm_90"
    with pytest.raises(BuildError, match="no nvcc found"):
        Modules((8, 0), [], ["no nvcc found"])("pcg", 0)


def test_a_device_that_is_too_old_is_refused_with_a_cure():
    with pytest.raises(BuildError, match=r"6\.0 or newer, this device has 5\.2.*backend='torch'"):
        modules_cuda.images_for((5, 2))


def test_nvcc_comes_first_where_it_is_named(monkeypatch):
    monkeypatch.setattr(build_nvrtc, "compilers", lambda: (["nvrtc"], ["one NVRTC does not load"]))
    monkeypatch.setattr(build_cuda, "compilers", lambda: (["nvcc"], []))
    monkeypatch.delenv("DIFF3R_NVCC", raising=False)
    assert modules_cuda.compilers() == (["nvrtc", "nvcc"], ["one NVRTC does not load"])
    monkeypatch.setenv("DIFF3R_NVCC", "/opt/cuda/bin/nvcc")
    assert modules_cuda.compilers()[0] == ["nvcc", "nvrtc"]


def nvrtc() -> build_nvrtc.Nvrtc:
    usable, reasons = build_nvrtc.compilers()
    if not usable:
        pytest.skip(f"no NVRTC here: {reasons}")
    return usable[0]


def test_nvrtc_compiles_what_a_refinement_needs():
    """To modules of the executable kind, without a word from the environment about toolkits."""
    modules = Modules((9, 0), [nvrtc()])
    assert modules("chart_splat_vjp", 1)[:4] == b"\x7fELF"
    made = list(Path(os.environ["DIFF3R_CACHE_DIR"]).glob("*.cubin"))
    assert len(made) == len(units(of_bases=True))


def test_nvrtcs_complaint_is_quoted(tmp_path):
    compiler, source = nvrtc(), tmp_path / "broken.cu"
    source.write_text("__global__ void kernel() { nonsense; }")
    with pytest.raises(BuildError, match=r"(?s)broken\.cu.*nonsense"):
        compiler.compile(source, 0, "sm_90", tmp_path / "out")


def of_version(monkeypatch, architectures: list[int]) -> build_nvrtc.Nvrtc:
    answer = {"version": [12, 4], "architectures": architectures}
    monkeypatch.setattr(build_nvrtc.Nvrtc, "_ask", lambda self, request: answer)
    return build_nvrtc.Nvrtc(Path("libnvrtc.so.12"))


def test_a_device_newer_than_nvrtc_gets_what_its_driver_can_finish(monkeypatch):
    compiler = of_version(monkeypatch, [50, 60, 90])
    assert compiler.name == "NVRTC 12.4"
    assert compiler.target((9, 0)) == "sm_90" and compiler.target((12, 0)) == "compute_90"


def test_a_device_older_than_nvrtc_is_refused_with_a_cure(monkeypatch):
    with pytest.raises(BuildError, match=r"7\.5 and newer, and this device has 7\.0.*\$DIFF3R_NVRTC"):
        of_version(monkeypatch, [75, 80]).target((7, 0))


def test_an_nvrtc_that_is_named_is_the_only_one(tmp_path, monkeypatch):
    library = tmp_path / "libnvrtc.so.12"
    monkeypatch.setenv("DIFF3R_NVRTC", str(library))
    with pytest.raises(BuildError, match=r"\$DIFF3R_NVRTC names .*libnvrtc\.so\.12"):
        build_nvrtc.libraries()
    library.write_bytes(b"no library")
    assert build_nvrtc.libraries() == [library]
    usable, (reason,) = build_nvrtc.compilers()
    assert (not usable and "libnvrtc.so.12" in reason and "invalid ELF header" in reason) or "file too short" in reason


def test_libraries_are_found_where_wheels_put_them(tmp_path, monkeypatch):
    """Not the builtins, nor one library by its two names twice."""
    monkeypatch.delenv("DIFF3R_NVRTC", raising=False)
    real = tmp_path / "libnvrtc.so.12"
    for name in ("libnvrtc.so.12", "libnvrtc-builtins.so.12.4", "libnvrtc.alt.so.12", "libother.so"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "libnvrtc.so").symlink_to(real)
    monkeypatch.setattr(build_nvrtc, "_folders", lambda: iter([tmp_path / "absent", tmp_path]))
    assert [path.resolve() for path in build_nvrtc.libraries()] == [real]
    monkeypatch.setattr(build_nvrtc, "_folders", lambda: iter([tmp_path / "absent"]))
    with pytest.raises(BuildError, match=r"no NVRTC found.*pip install nvidia-cuda-nvrtc.*\$DIFF3R_NVRTC"):
        build_nvrtc.libraries()


def test_a_process_that_dies_is_an_error_not_an_answer(tmp_path, monkeypatch):
    crashing = tmp_path / "crashing.py"
    crashing.write_text("import os, sys\nprint('out of memory', file=sys.stderr)\nsys.stderr.flush()\nos._exit(9)\n")
    monkeypatch.setattr(nvrtc_process, "__file__", str(crashing))
    with pytest.raises(BuildError, match=r"ended with 9, saying out of memory"):
        build_nvrtc.Nvrtc(tmp_path / "libnvrtc.so")


def test_the_process_answers_with_json():
    assert "error" in json.loads(json.dumps(nvrtc_process.answer({"library": "/nowhere/libnvrtc.so"})))


@pytest.mark.parametrize(
    ("version", "target", "named"),
    [((11, 8), "sm_90", False), ((11, 8), "compute_80", True), ((12, 1), "sm_90", True)],
)
def test_lines_are_named_where_the_compiler_survives_it(version, target, named, monkeypatch, tmp_path):
    asked = []

    def ask(self, request):
        asked.append(request)
        return {"version": version, "architectures": [80, 90]}

    monkeypatch.setattr(build_nvrtc.Nvrtc, "_ask", ask)
    build_nvrtc.Nvrtc(tmp_path / "libnvrtc.so").compile(tmp_path / "a.cu", 0, target, tmp_path / "a")
    assert (build_nvrtc.LINE_INFO in asked[-1]["options"]) == named
