"""What happens on a GPU where its kernels, gsplat or the CPU's kernels do not work."""

import threading

import gsplat_on_cpu
import pytest
import torch

from benchmarks import launches
from benchmarks.pretended import pretended_devices
from diff3r_plugin import render
from diff3r_plugin.kernels.loading import cache
from diff3r_plugin.render import gsplat_backend, gsplat_rasterizer, native_backend
from diff3r_plugin.render.gsplat_rasterizer import GsplatError


@pytest.fixture
def device_without_kernels(monkeypatch):
    """A pretended GPU on which neither its kernels work nor those of the CPU."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    with pretended_devices(*launches.emulated()):
        for backend in (gsplat_backend, native_backend):
            monkeypatch.setattr(backend, "is_available", lambda *arguments: False)
        yield


@pytest.mark.parametrize("call", [render.linearize, render.render])
def test_the_last_fallback_is_refused_where_it_would_not_fit(device_without_kernels, call, monkeypatch):
    scene, views = launches.room()
    monkeypatch.setattr(render, "available_bytes", lambda device: 2**20)
    with pytest.raises(MemoryError, match=r"128 Gaussians in \(1, 2\) images of \(8, 8\).*Install a C\+\+ compiler"):
        call(scene, views)


def test_the_last_fallback_is_taken_where_it_fits_or_is_asked_for(device_without_kernels, monkeypatch):
    scene, views = launches.room()
    for there, backend in ((2**34, "auto"), (None, "auto"), (2**20, "torch")):
        monkeypatch.setattr(render, "available_bytes", lambda device, there=there: there)
        assert render.render(scene, views, backend).shape == (1, 2, 3, 8, 8)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DIFF3R_WITHOUT_GSPLAT", raising=False)


def test_only_one_process_lets_gsplat_compile_itself(own_cache, monkeypatch):
    """It deletes what another one is building. (Locks of one process exclude each other as those of two do.)"""
    building, at_once = [], []

    def build(device):
        building.append(device)
        at_once.append(len(building))
        waiting.wait(0.3)
        building.remove(device)
        raise GsplatError("no toolkit")

    waiting = threading.Event()
    monkeypatch.setattr(gsplat_rasterizer, "working_gsplat", build)
    found = []

    def load(index: int) -> None:
        found.append(gsplat_rasterizer._found(torch.device("cuda", index), None))

    with pytest.warns(RuntimeWarning, match="no toolkit"):
        threads = [threading.Thread(target=load, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert at_once == [1, 1, 1] and [rasterizer.origin for rasterizer in found] == [gsplat_rasterizer.OWN] * 3


def test_a_lock_that_is_never_given_back_holds_nobody_for_ever(own_cache):
    with cache.only_one("gsplat"), cache.only_one("gsplat", timeout=0.2):
        pass
