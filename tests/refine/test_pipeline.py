"""A refinement from files to files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from io import StringIO

import pytest
import refine_files
import torch

from diff3r_plugin import TTOConfig, TTOLayer
from diff3r_plugin.io import read_npz, read_ply, read_posed_images
from diff3r_plugin.refine import RefineError, RefineSettings, refine
from diff3r_plugin.refine.progress import Progress

BACKGROUND = (0.1, 0.2, 0.3)


@pytest.fixture
def settings(tmp_path) -> RefineSettings:
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    return RefineSettings(scene, str(cameras), tmp_path / "out", hold_out="2,5", background=BACKGROUND, seed=1)


def test_scores_on_held_out_images_rise_and_everything_is_written(settings):
    result = refine(settings)
    metrics = json.loads((settings.out / "metrics.json").read_text())
    assert metrics["after"]["held_out"]["psnr"] > metrics["before"]["held_out"]["psnr"] + 3
    assert metrics["after"]["context"]["ssim"] > metrics["before"]["context"]["ssim"]
    assert [view["name"] for view in metrics["views"]["held_out"]] == ["images/2.png", "images/5.png"]
    for scene in (read_ply(settings.out / "refined.ply"), read_npz(settings.out / "refined.npz")):
        assert torch.allclose(scene.means, result.scene.means, atol=1e-6)
    pictures = sorted(path.name for path in (settings.out / "images").iterdir())
    assert len(pictures) == 12 and pictures[-1] == "held_out_5.png_truth.png"


def test_the_record_holds_every_setting_with_its_default(settings):
    recorded = refine(settings).metrics["settings"]
    assert set(recorded) == {field.name for field in fields(RefineSettings)}
    assert set(recorded["tto"]) == {field.name for field in fields(TTOConfig)}
    assert recorded["weights"] == dict.fromkeys(TTOConfig().groups, 0.1)


def test_one_round_on_all_views_is_the_layer_itself(settings):
    from diff3r_plugin.io import read_gaussians

    views = read_posed_images(settings.cameras).subset([0, 1, 3, 4]).views(background=BACKGROUND)
    expected, info = TTOLayer(TTOConfig())(read_gaussians(settings.scene), views, 0.1)
    result = refine(settings)
    assert len(result.metrics["rounds"]) == 1
    assert torch.equal(result.scene.means, expected.means)
    assert result.metrics["rounds"][0]["energy_after"] == float(info.energy[-1, 0])


def test_a_scene_that_cannot_be_refined_is_named_with_its_fault(settings):
    from diff3r_plugin.io import read_gaussians, write_npz

    broken = read_gaussians(settings.scene)
    broken.scales[0, 0, 0] = 1e18  # whose square float32 does not hold
    write_npz(settings.out.parent / "broken.npz", broken)
    message = "Round 1 could do nothing \\(invalid_gaussians\\): a Gaussian is not finite"
    with pytest.raises(RefineError, match=message):
        refine(replace(settings, scene=settings.out.parent / "broken.npz"))


def test_rounds_see_few_views_each_and_all_of_them_in_turn(settings):
    result = refine(replace(settings, views_per_round=2, rounds=4))
    seen = [entry["views"] for entry in result.metrics["rounds"]]
    assert all(len(views) == 2 for views in seen)
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == [f"images/{i}.png" for i in (0, 1, 3, 4)]
    assert result.metrics["after"]["held_out"]["psnr"] > result.metrics["before"]["held_out"]["psnr"] + 3


def test_rounds_that_fail_make_the_next_ones_more_careful(tmp_path):
    """From points that are much too large, with a single step a round."""
    folder = refine_files.write_colmap(tmp_path / "model")
    tto = TTOConfig(inner_steps=1, damping=1e-4)
    settings = RefineSettings(None, str(folder), tmp_path / "out", hold_out="every:3", rounds=12, tto=tto, pictures=0)
    result = refine(replace(settings, weights=dict.fromkeys(tto.groups, 1e-6)))
    rounds = result.metrics["rounds"]
    failed = [entry["round"] for entry in rounds if not entry["accepted_steps"]]
    assert failed, "or this tests nothing"
    assert all(rounds[number]["damping"] > rounds[number - 1]["damping"] for number in failed if number < 12)
    assert any(entry["accepted_steps"] for entry in rounds[failed[0] :]), "which then succeed"
    assert result.metrics["after"]["context"]["psnr"] > result.metrics["before"]["context"]["psnr"]


def test_a_scene_can_start_from_the_points_of_a_model(tmp_path):
    folder = refine_files.write_colmap(tmp_path / "model")
    settings = RefineSettings(None, str(folder), tmp_path / "out", hold_out="every:3", background=BACKGROUND)
    metrics = refine(settings).metrics
    assert metrics["gaussians"] == 60 and len(metrics["rounds"]) == 30
    # 4 images of 24 x 32 pixels, 22 unknowns of a Gaussian of degree 1, three numbers for each.
    assert 60 < metrics["gaussians_after"] <= 3 * 24 * 32 * 4 // (3 * 22)
    assert metrics["rounds"][19]["gaussians"] == 60
    assert metrics["after"]["held_out"]["psnr"] > metrics["before"]["held_out"]["psnr"] + 5


def test_without_held_out_images_there_are_scores_of_the_context_alone(settings):
    metrics = refine(replace(settings, hold_out="none")).metrics
    assert metrics["before"]["held_out"] is None and metrics["after"]["context"]["psnr"] > 10


def test_images_are_made_smaller(settings):
    assert refine(replace(settings, downscale=2)).metrics["image_size"] == [12, 16]


def test_what_does_not_fit_is_refused_before_it_starts(settings):
    with pytest.raises(RefineError, match=r"Refining 60 Gaussians .* takes about 0\.05 GiB, and 0\.01 GiB may be used"):
        refine(replace(settings, memory_gib=0.01))
    assert not settings.out.exists()


def test_another_world_is_noticed(settings):
    from diff3r_plugin.io import write_ply

    scene = read_ply(settings.scene)
    write_ply(settings.scene, replace(scene, means=scene.means + 1000))
    with pytest.raises(RefineError, match="scene and cameras are in different coordinate frames"):
        refine(settings)


def test_an_output_that_cannot_be_written_is_found_first(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RefineError, match="cannot be written to"):
        refine(replace(settings, out=tmp_path / "file" / "out"))


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, StringIO])
def test_progress_is_a_bar_in_a_terminal_and_lines_elsewhere(settings, stream):
    said = stream()
    refine(replace(settings, views_per_round=2, rounds=3, pictures=0), progress=Progress(said))
    text = said.getvalue()
    assert ("round 2/3  energy" in text) == (stream is StringIO)
    assert ("3/3 [" in text and "energy" in text) == (stream is Terminal)
    assert "held-out  PSNR" in text


def test_an_error_message_does_not_stand_behind_a_bar(settings):
    """The command prints it to the same terminal."""

    def interrupted(done):
        raise KeyboardInterrupt

    said = Terminal()
    progress = Progress(said)  # held, as by the traceback of an error that is being told
    with pytest.raises(KeyboardInterrupt):
        refine(replace(settings, views_per_round=2, rounds=3), progress=progress, after_round=interrupted)
    assert "1/3 [" in said.getvalue() and said.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downscale": 0}, "downscale=0 must be a whole number"),
        ({"rounds": 0}, "rounds=0"),
        ({"weights": {"poses": 1.0}}, "'poses', which does not move"),
        ({"weights": {"means": -1.0}}, r"weights.means=-1.0 must be positive"),
        ({"near": 2.0, "far": 1.0}, "below far=1"),
        ({"background": (0, 0, 255)}, r"\[0, 1\]"),
        pytest.param(
            {"device": "cuda"},
            "finds no CUDA device here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
        ({"device": "tpu"}, "device='tpu' is not one of cpu, cuda"),
        ({"memory_gib": 0.0}, "memory=0.0"),
    ],
)
def test_settings_are_checked(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(settings, **changes)
