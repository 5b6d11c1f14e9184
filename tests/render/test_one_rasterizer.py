"""Processes of one run render by the same functions."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from diff3r_plugin.render import one_rasterizer
from diff3r_plugin.render.one_rasterizer import agreed


def by(origin: str, alpha_cap: float) -> SimpleNamespace:
    return SimpleNamespace(origin=origin, alpha_cap=alpha_cap, kernels="kernels", rasterize_to_pixels=None)


def own(kernels) -> SimpleNamespace:
    assert kernels == "kernels"
    return by("diff3r's kernels", 0.99)


@pytest.fixture
def store(monkeypatch):
    """That of a run of which every call of ``agreed`` is one process."""
    found = torch.distributed.HashStore()
    found.set_timeout(timedelta(seconds=5))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: found)
    return found


def test_one_process_renders_by_what_it_finds():
    mine = by("gsplat 1.5.3", 0.999)
    assert agreed(mine, own) is mine


def test_a_process_follows_the_first_to_our_kernels_with_one_line(store):
    first, second = own("kernels"), by("gsplat 1.5.3", 0.999)
    assert agreed(first, own) is first
    with pytest.warns(
        RuntimeWarning, match=r"by diff3r's kernels, as the first of the run does, and not by gsplat 1\.5\.3"
    ):
        assert agreed(second, own).origin == "diff3r's kernels"


def test_equal_processes_agree_without_a_word(store, recwarn):
    for _ in range(3):
        mine = by("gsplat 1.5.3", 0.999)
        assert agreed(mine, own) is mine
    assert not recwarn.list and store.get(one_rasterizer.KEY) == b"gsplat 1.5.3, alpha cap 0.999"


@pytest.mark.parametrize("second", [own("kernels"), by("gsplat 1.6.0", 0.99)])
def test_a_process_that_cannot_follow_says_how_it_could(store, second):
    agreed(by("gsplat 1.5.3", 0.999), own)
    with pytest.raises(RuntimeError, match=r"gsplat 1\.5\.3, alpha cap 0\.999.*DIFF3R_WITHOUT_GSPLAT=1"):
        agreed(second, own)
