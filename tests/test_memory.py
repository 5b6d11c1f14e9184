"""Memory: estimates, and what there is."""

import subprocess
import sys
from pathlib import Path

import pytest

from diff3r_plugin import memory

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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_the_estimate_is_near_the_measured_peak():
    """In a process of its own (some seconds), for a peak never falls."""
    measured = int(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout)
    estimated = memory.refinement_bytes(60_000, 22, 2, (128, 128))
    assert 0.9 * measured < estimated < 1.8 * measured, (measured, estimated)


def test_limits_of_a_container_count(monkeypatch):
    free = memory.available_bytes()
    assert free is not None and free > 0
    monkeypatch.setattr(memory, "_control_group", lambda: 12345)
    assert memory.available_bytes() == 12345


def test_groups_that_stay_take_nothing():
    assert memory.unknowns_per_gaussian(("means", "covariance", "opacity", "sh_dc", "sh_rest"), 3) == 58
    assert memory.unknowns_per_gaussian(("opacity",), 3) == 1


@pytest.mark.parametrize("available", [2e8, 1e9, 2e9, 2e10], ids=["200 MB", "1 GB", "2 GB", "20 GB"])
def test_the_largest_scene_is_the_last_whose_estimate_fits(available):
    """Also where a linearization keeps as many alphas as it may."""
    count = memory.largest_scene(available, 22, 4, (256, 256))
    needed = [memory.refinement_bytes(n, 22, 4, (256, 256)) for n in (count, count + 1)]
    assert needed[0] <= available < needed[1]
