"""The part that checks: what a backend does on its device, and how the run of all checks ends."""

import json

import pytest
import torch

from benchmarks.gpu import behavior
from benchmarks.gpu.checks import CHECKS, run_checks
from benchmarks.gpu.products import Check, Subject
from benchmarks.gpu.record import Budget, Record
from diff3r_plugin.render import available_backends
from diff3r_plugin.render.semantics import ALPHA_CAP

TESTED = Subject(available_backends()[0], torch.device("cpu"))


def outcome(path, checks, seconds=60.0):
    record = Record(path / "checks.json", "checks")
    run_checks(record, Budget(seconds), TESTED, checks)
    return json.loads((path / "checks.json").read_text())


def by_name(check):
    return {c.name: c for c in check(TESTED)}


def test_behavior_of_the_cpu_backend():
    for check in (behavior.check_choice, behavior.check_mixed_precision):
        assert all(c.passed for c in check(TESTED))
    of_a_device = (
        behavior.check_streams,
        behavior.check_no_waiting,
        behavior.check_out_of_memory,
        behavior.check_second_device,
        behavior.check_float64_is_refused,
    )
    for check in of_a_device:
        assert [c.passed for c in check(TESTED)] == [None]


def test_the_layer_check_fails_for_a_wrong_product_of_the_device(monkeypatch):
    if TESTED.backend != "native":
        pytest.skip("the CPU kernels cannot be compiled here")
    from diff3r_plugin.linearized.fused import FusedLinearization

    assert all(c.passed for c in behavior.check_layer(TESTED))
    right = FusedLinearization.gauss_newton_product

    def wrong(self, tangent, *rest, **named):
        scale = 1.05 if tangent.dtype == torch.float32 else 1.0  # the reference computes in float64
        return scale * right(self, tangent, *rest, **named)

    monkeypatch.setattr(FusedLinearization, "gauss_newton_product", wrong)
    found = by_name(behavior.check_layer)
    assert found["layer, energies"].passed is False and found["layer, gradient to means"].passed is False


def test_the_alpha_cap_is_measured_from_an_image():
    assert behavior.alpha_cap(TESTED) == pytest.approx(ALPHA_CAP, abs=1e-4)
    assert all(c.passed is None and c.error < 1e-4 for c in behavior.check_opaque(TESTED))


def test_an_exception_is_a_failure_of_one_check(tmp_path):
    def broken(tested):
        yield Check.that("before", "the crash", True)
        raise RuntimeError("illegal memory access")

    def sound(tested):
        yield Check.that("sound", "case", True)

    found = outcome(tmp_path, (broken, sound))
    assert [c["passed"] for c in found["checks"]] == [True, False, True]
    assert "illegal memory access" in found["checks"][1]["note"]


def test_without_time_it_says_what_is_left_out(tmp_path):
    found = outcome(tmp_path, CHECKS, seconds=0.0)
    assert found["state"] == "cut short" and "check_random_scenes" in found["left_out"] and "checks" not in found
