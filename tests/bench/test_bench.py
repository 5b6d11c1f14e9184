"""What this machine takes: the synthetic scene, the turns, and what is said of them."""

from __future__ import annotations

import json
import time
from unittest import mock

import pytest
import torch

from diff3r_plugin import TTOConfig, TTOLayer
from diff3r_plugin.bench import BenchSettings, bench, measurement, timing
from diff3r_plugin.bench.scene import predicted_scene
from diff3r_plugin.bench.timing import in_turns, median_of_ratios
from diff3r_plugin.cli.main import main
from diff3r_plugin.metrics import psnr
from diff3r_plugin.render import render


def test_the_made_up_scene_fills_its_images_and_can_be_refined():
    scene, views = predicted_scene(600, 3, (20, 30), 1)
    assert (scene.num_gaussians, scene.sh_degree, views.num_views, views.image_size) == (600, 1, 3, (20, 30))
    assert (views.images.amax(2) > 0.05).float().mean() > 0.9, "hardly a pixel is empty"
    refined, info = TTOLayer(TTOConfig())(scene, views, 0.1)
    assert info.energy[-1, 0] < 0.5 * info.energy[0, 0]
    cameras = views.replace(images=None, image_size=views.image_size)
    gain = psnr(views.images, render(refined, cameras)) - psnr(views.images, render(scene, cameras))
    assert (gain > 2).all()


def test_turns_are_made_until_the_time_is_up_and_ratios_are_taken_within_them():
    clock = 0.0

    def passing(seconds: float):
        def step() -> None:
            nonlocal clock
            clock += seconds * (1 + clock)  # the machine gets busier and busier

        return step

    with mock.patch.object(timing.time, "perf_counter", lambda: clock):
        times = in_turns({"a": passing(0.01), "b": passing(0.03)}, seconds=1.0)
    assert len(times["a"]) == len(times["b"]) > 10
    assert max(times["a"]) > 1.5 * min(times["a"])
    assert len(in_turns({"slow": lambda: time.sleep(0.02)}, seconds=0.01)["slow"]) == 1, (
        "a turn that took it all counts"
    )
    assert median_of_ratios(times, "b", "a") == pytest.approx(3, rel=0.05)


def test_every_row_is_measured_and_the_largest_scene_is_larger():
    result = bench(BenchSettings(gaussians=200, size=(16, 24), seconds=0.01, steps=2))
    assert set(result.seconds) == set(result.renderings) and all(t > 0 for t in result.seconds.values())
    assert result.seconds[measurement.REFINE] > result.seconds[measurement.PRODUCT]
    assert 0 < result.pcg_products <= 2 * TTOConfig().inner_pcg_iterations
    assert result.largest > 200 and result.machine["threads"] == torch.get_num_threads()


def test_what_cannot_fit_is_refused_with_what_fits(monkeypatch):
    monkeypatch.setattr(measurement, "available_bytes", lambda device: 2_000_000_000)
    with pytest.raises(ValueError, match=r"take about 4\.\d GB, and 2\.0 GB are free; on such views \d+ Gaussians fit"):
        bench(BenchSettings(gaussians=1_000_000))


def test_the_command_prints_and_writes_its_figures(capsys, tmp_path):
    file = tmp_path / "bench.json"
    assert main(["bench", "--size", "12x16", "--views", "1", "--seconds", "0.01", "--json", str(file)]) == 0
    said, written = capsys.readouterr().out, json.loads(file.read_text())
    assert "192 Gaussians (degree 1), 1 views of 16 x 12" in said
    assert f"a scene takes {written['seconds']['refine a scene']:.2f} s to refine" in said
    assert written["settings"]["size"] == [12, 16] and written["largest"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "ten"], "--size ten: give S or HxW"),
        (["--views", "0"], "views=0"),
        (["--gaussians", "0"], "gaussians=0"),
        (["--degree", "5"], "degree=5 must be 0 to 4"),
        (["--backend", "opengl"], "Unknown render backend 'opengl'"),
    ],
)
def test_what_is_wrong_is_one_line(words, message, capsys):
    assert main(["bench", "--device", "cpu", *words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("diff3r bench: ") and message in said
