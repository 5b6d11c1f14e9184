"""The machine's limits, and shares of them."""

import pytest

from benchmarks import limits
from benchmarks.scenes import pixel_aligned_scene
from diff3r_plugin.render import native_backend

pytestmark = pytest.mark.skipif(not native_backend.is_available(), reason="no compiler here")


def test_a_product_reaches_a_share_of_both_limits(monkeypatch):
    monkeypatch.setattr(limits, "operations_per_second", lambda threads: 1e9 * threads)
    monkeypatch.setattr(limits, "bytes_per_second", lambda threads: 1e9 * threads)
    lin = native_backend.linearize(*pixel_aligned_scene(16, image_size=16, degree=0))
    slow, fast = (limits.shares(lin, {"product": seconds}, threads=1)[0] for seconds in (0.2, 0.1))
    assert 0 < slow["of arithmetic"] == pytest.approx(fast["of arithmetic"] / 2)
    assert 0 < slow["of memory"] == pytest.approx(fast["of memory"] / 2)
    (half,) = limits.shares(lin, {"product": 0.1}, threads=2)
    assert half["of arithmetic"] == pytest.approx(fast["of arithmetic"] / 2)


def test_the_bare_loops_run(monkeypatch):
    """Arithmetic from registers outruns reading of memory on any machine: by operations a number read."""
    assert limits.operations_per_second(1) > limits.bytes_per_second(1) / 4
