"""The self-test of a GPU's kernels: it passes on those of this source, and fails where any of them does nothing."""

import json
from dataclasses import replace

import gsplat_on_cpu
import pytest
import torch

from diff3r_plugin.kernels.loading import cache, library_cuda
from diff3r_plugin.kernels.loading.kernel_table import BASES, KERNELS
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.render import gsplat_backend, gsplat_rasterizer, resolve_backend, self_test
from diff3r_plugin.render.self_test import CHECKS, LIMIT, Outcome, SelfTestError

CPU = torch.device("cpu")


@pytest.fixture
def rasterizer():
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    return gsplat_on_cpu.own_rasterizer(torch.float32)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path))


def test_every_kernel_has_a_check():
    assert {name for check in CHECKS for name in check.kernels} == set(KERNELS)


@pytest.mark.parametrize("bases", [1, 4, pytest.param(16, marks=pytest.mark.slow)])
def test_the_kernels_pass_far_below_the_limit(rasterizer, bases):
    outcomes = self_test.run(rasterizer, CPU, bases)
    assert [o.name for o in outcomes] == [c.name for c in CHECKS]
    for outcome in outcomes:
        assert outcome.passed and outcome.deviation < 0.2 * LIMIT, str(outcome)


class WithoutOne(CudaKernels):
    """The kernels, of which one returns without having done anything."""

    def __init__(self, kernels: CudaKernels, missing: str) -> None:
        super().__init__(kernels._driver, kernels._images)
        self._missing = missing

    def launch(self, name, queue, first, *arguments) -> None:
        if name != self._missing:
            super().launch(name, queue, first, *arguments)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_that_does_nothing_fails_a_check_that_names_it(rasterizer, kernel, monkeypatch):
    """What it should have written is filled with ones here; on a device it holds anything."""
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: torch.ones(*shape, **options))
    monkeypatch.setattr(torch, "empty_like", lambda like, **options: torch.ones_like(like, **options))
    broken = replace(rasterizer, kernels=WithoutOne(rasterizer.kernels, kernel))
    case = self_test._case(broken, CPU, 4)
    concerned = [self_test._outcome(check, case) for check in CHECKS if kernel in check.kernels]
    assert any(not outcome.passed for outcome in concerned), [str(o) for o in concerned]


def test_what_gsplat_does_is_checked_where_it_is_used(rasterizer):
    twins = gsplat_on_cpu.rasterizer(torch.float32)
    (check,) = [check for check in CHECKS if "gsplat" in check.name]
    assert self_test._outcome(check, self_test._case(twins, CPU, 1)).passed

    def darker(*arguments, **options):
        image, alphas = twins.rasterize_to_pixels(*arguments, **options)
        return 0.9 * image, alphas

    broken = self_test._outcome(check, self_test._case(replace(twins, rasterize_to_pixels=darker), CPU, 1))
    assert broken.deviation == pytest.approx(0.1, rel=0.01) and not broken.passed


@pytest.fixture
def one_check(monkeypatch):
    """A single check, of which the deviation can be chosen, and how often it has run."""
    state = {"deviation": 0.0, "runs": 0}

    def pairs(case):
        state["runs"] += 1
        yield torch.tensor([1.0 + state["deviation"]]), torch.ones(1).double()

    monkeypatch.setattr(self_test, "CHECKS", [self_test.Check("made up", ("project",), pairs)])
    return state


def test_a_pass_is_remembered_for_the_build_and_a_failure_is_not(rasterizer, own_cache, one_check):
    for _ in range(2):
        (outcome,) = self_test.require(rasterizer, CPU, 1, "a build")
        assert outcome.passed and one_check["runs"] == 1
    one_check["deviation"] = 0.5
    for runs in (2, 3):
        with pytest.raises(SelfTestError, match=r"1 of 1 checks.*made up \(project\): deviates by 5\.0e-01.*doctor"):
            self_test.require(rasterizer, CPU, 1, "another build")
        assert one_check["runs"] == runs


def test_what_raises_or_is_not_finite_has_failed(rasterizer, one_check, monkeypatch):
    one_check["deviation"] = float("nan")
    assert self_test.run(rasterizer, CPU, 1)[0].deviation == float("inf")

    def pairs(case):
        raise RuntimeError("an illegal memory access was encountered\nand more")

    monkeypatch.setattr(self_test, "CHECKS", [self_test.Check("made up", ("project",), pairs)])
    (outcome,) = self_test.run(rasterizer, CPU, 1)
    assert not outcome.passed and str(outcome).startswith("made up (project): RuntimeError: an illegal memory access")
    assert "more" not in str(outcome)


def test_outcomes_can_be_read_again():
    outcome = Outcome("J v", ("splat_jvp", "rasterize_jvp"), 1e-6, 0.25)
    assert self_test.read(json.dumps([outcome.__dict__])) == [outcome]


def test_kernels_that_fail_leave_a_gpu_to_the_cpus_with_one_line(rasterizer, own_cache, one_check, monkeypatch):
    """Of scenes with any number of harmonics, and for vectors too; a renderer that was asked for by name is refused."""
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    load = library_cuda.remembered(lambda device: rasterizer.kernels)
    monkeypatch.setattr(library_cuda, "load", load)
    monkeypatch.setattr(gsplat_rasterizer, "load", lambda device: rasterizer)
    monkeypatch.setattr(self_test, "_case", lambda *given: None)
    one_check["deviation"] = 1.0
    gsplat_backend._failure.cache_clear()
    try:
        assert resolve_backend("auto", device) == "gsplat", "nothing is known of its scenes yet"
        with pytest.warns(RuntimeWarning, match=r"cuda:0 are not refined by the GPU's kernels.*made up") as caught:
            assert resolve_backend("auto", device, 4) == "native"
            assert resolve_backend("auto", device, 4) == "native"
        assert len(caught) == 1
        with pytest.raises(SelfTestError):
            load(device)
        with pytest.raises(ValueError, match=r"'gsplat' is not available.*NVRTC"):
            resolve_backend("gsplat", device, 4)
    finally:
        gsplat_backend._failure.cache_clear()


def test_the_cache_holds_nothing_of_a_failed_test(own_cache, one_check, rasterizer, tmp_path):
    one_check["deviation"] = 1.0
    with pytest.raises(SelfTestError):
        self_test.require(rasterizer, CPU, 1, "a build")
    assert cache.find("self_test_*.json") is None
    assert set(BASES) == {1, 4, 9, 16, 25}
