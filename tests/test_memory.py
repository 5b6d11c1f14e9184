"""Memory: estimates, and what there is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diff3r_plugin import memory, release_memory
from diff3r_plugin.kernels.loading import library_cpu

PEAK = """
import torch
from diff3r_plugin import TTOConfig, TTOLayer
from diff3r_plugin.bench.scene import predicted_scene
def refine(count, size):
    scene, views = predicted_scene(count, 2, (size, size), 1)
    with torch.no_grad():
        TTOLayer(TTOConfig(inner_steps=1))(scene, views, 0.1)
def peak():  # of this program alone; getrusage remembers that of the process it was started from
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
refine(64, 16)
before = peak()
refine(60_000, 128)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_the_estimate_is_near_the_measured_peak():
    """In a process of its own (some seconds), for a peak never falls."""
    measured = int(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout)
    estimated = memory.refinement_bytes(60_000, 22, 2, (128, 128))
    assert 0.9 * measured < estimated < 1.8 * measured, (measured, estimated)


def test_limits_of_a_container_count(monkeypatch):
    free = memory.available_bytes()
    assert free is not None and free > 0
    monkeypatch.setattr(memory, "control_groups", lambda: [(30000, 17655), (10**12, 5)])
    assert memory.available_bytes() == 12345 and memory.limit_bytes() == 30000


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"memory.max": 70, "memory.current": 20}, [(70, 20)]),
        ("0::/", {"memory.max": "max", "memory.current": 20}, []),
        (
            "0::/a/b",
            {"a/memory.max": 70, "a/memory.current": 9, "a/b/memory.max": "max", "a/b/memory.current": 1},
            [(70, 9)],
        ),
        ("9:cpu:/x\n4:memory:/c", {"memory/c/memory.limit_in_bytes": 8, "memory/c/memory.usage_in_bytes": 3}, [(8, 3)]),
        ("4:memory:/host", {"memory/memory.limit_in_bytes": 8, "memory/memory.usage_in_bytes": 3}, [(8, 3)]),
        ("", {}, []),
    ],
)
def test_limits_are_read_in_either_version_of_control_groups(tmp_path, own, files, expected):
    (tmp_path / "own").write_text(own)
    for name, value in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    assert memory.control_groups(tmp_path, tmp_path / "own") == expected


def test_what_waits_to_be_used_again_is_given_back():
    library = library_cpu.load()
    if library is None:
        pytest.skip("no kernels here")
    release_memory()
    block = library.empty((2**22,), torch.float32)
    del block
    assert release_memory() == 2**24
    assert release_memory() == 0


def test_an_accident_in_a_kernel_is_no_answer():
    library = library_cpu.load()
    if library is None:
        pytest.skip("no kernels here")
    kernel = library.by_dtype[torch.float32].jvp
    assert kernel.errcheck(library_cpu.OUT_OF_MEMORY, kernel, ()) == library_cpu.OUT_OF_MEMORY
    with pytest.raises(RuntimeError, match="the CPU kernel diff3r_jvp_f32 failed"):
        kernel.errcheck(library_cpu.FAILED, kernel, ())


def test_groups_that_stay_take_nothing():
    assert memory.unknowns_per_gaussian(("means", "covariance", "opacity", "sh_dc", "sh_rest"), 3) == 58
    assert memory.unknowns_per_gaussian(("opacity",), 3) == 1


@pytest.mark.parametrize("available", [2e8, 1e9, 2e9, 2e10], ids=["200 MB", "1 GB", "2 GB", "20 GB"])
def test_the_largest_scene_is_the_last_whose_estimate_fits(available):
    """Also where a linearization keeps as many alphas as it may."""
    count = memory.largest_scene(available, 22, 4, (256, 256))
    needed = [memory.refinement_bytes(n, 22, 4, (256, 256)) for n in (count, count + 1)]
    assert needed[0] <= available < needed[1]


@pytest.mark.parametrize("available", [1e9, 2e10])
def test_a_gpus_kernels_keep_no_alphas_but_rooms_for_products(available):
    """Two, of nine numbers in float32 for each Gaussian and view."""
    count = memory.largest_scene(available, 22, 4, (256, 256), "cuda")
    needed = [memory.refinement_bytes(n, 22, 4, (256, 256), "cuda") for n in (count, count + 1)]
    assert needed[0] <= available < needed[1]
    more = memory.refinement_bytes(count, 22, 4, (256, 256)) - needed[0]
    assert more == min(memory.MOST_ALPHA_BYTES, 4 * count * memory.ALPHA_BYTES) - 2 * 9 * 4 * 4 * count


def test_what_pytorch_has_reserved_on_a_gpu_and_does_not_use_can_be_had(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert memory.available_bytes("cuda:0") == 1500
