"""A refinement as an object: scores, renderings, and single rounds."""

from dataclasses import replace

import pytest
import refine_files
import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.refine import Refinement, RefineSettings, RoundSettings, refine, refine_scene
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.inputs import StoredImages, read_inputs
from diff3r_plugin.refine.sources import ViewsInMemory
from diff3r_plugin.render import render

SETTINGS = RoundSettings(views_per_round=2, rounds=8, validation=1)


@pytest.fixture
def made() -> tuple[Gaussians, Views]:
    return refine_files.made()


def test_steps_one_by_one_are_the_whole_refinement(made):
    scene, views = made
    refinement, state = Refinement.of(SETTINGS, scene, ViewsInMemory(views)), Checkpoint(scene, [])
    for _ in range(8):
        state = refinement.step(state)
    expected = refine_scene(scene, views, SETTINGS)
    assert state.best_round == expected.best_round is not None
    for ours, theirs in zip(state.result.tensors(), expected.scene.tensors(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_leaves_the_state_that_it_was_given(made):
    scene, views = made
    refinement = Refinement.of(SETTINGS, scene, ViewsInMemory(views))
    state = refinement.step(Checkpoint(scene, []))
    means, rounds = state.scene.means.clone(), list(state.rounds)
    first, second = refinement.step(state), refinement.step(state)
    assert torch.equal(state.scene.means, means) and state.rounds == rounds and len(first.rounds) == 2
    assert torch.equal(first.scene.means, second.scene.means) and not torch.equal(first.scene.means, means)


def test_a_finished_refinement_runs_no_round(made):
    scene, views = made
    refinement, told = Refinement.of(SETTINGS, scene, ViewsInMemory(views)), []
    done = refinement.run(Checkpoint(scene, []), told.append)
    assert len(told) == 8 and refinement.run(done, told.append) is done and len(told) == 8


def test_scores_are_those_of_renderings_beside_their_images(made):
    scene, views = made
    shown = render(scene, views.replace(images=None, image_size=views.image_size))
    scores = Refinement.of(SETTINGS, scene, ViewsInMemory(views)).score(scene)
    assert len(scores) == views.num_views
    for number, score in enumerate(scores):
        pair = views.images[:, number], shown[:, number]
        assert score["psnr"] == pytest.approx(float(psnr(*pair)), abs=1e-3)
        assert score["ssim"] == pytest.approx(float(ssim(*pair)), abs=1e-4)


def test_pixels_of_no_weight_do_not_change_scores(made):
    scene, views = made
    weights = torch.ones_like(views.images[:, :, 0])
    weights[..., :16] = 0
    images = views.images.clone()
    images[..., :16] = 1 - images[..., :16]
    changed = views.replace(images=images)
    scores = {
        name: Refinement.of(SETTINGS, scene, ViewsInMemory(given, own)).score(scene)
        for name, given, own in (
            ("given", views, weights),
            ("changed", changed, weights),
            ("unmasked", changed, None),
        )
    }
    assert scores["given"] == scores["changed"] != scores["unmasked"]


def test_files_are_scored_as_the_command_scores_them(tmp_path):
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    settings = RefineSettings(scene, str(cameras), tmp_path / "out", hold_out="2,5", pictures=0)
    inputs = read_inputs(settings)
    context, held_out = (StoredImages(images, inputs, settings) for images in (inputs.context, inputs.held_out))
    scores = Refinement.of(settings, inputs.scene, context).score(inputs.scene, held_out)
    recorded = refine(settings).metrics["views"]["held_out"]
    assert [view["before"] for view in recorded] == scores and len(scores) == 2


def test_images_that_are_not_kept_are_the_same_ones(tmp_path):
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    settings = RefineSettings(scene, str(cameras), tmp_path / "out", downscale=2)
    inputs = read_inputs(settings)
    one_image = 12 * inputs.size[0] * inputs.size[1]
    sources = [StoredImages(inputs.context, inputs, settings, cache_bytes=n * one_image) for n in (0, 1, 9)]
    for _ in range(2):
        loaded = [source.load([2, 0, 1])[0] for source in sources]
        assert all(torch.equal(loaded[0].images, view.images) for view in loaded)


def test_none_to_judge_by_is_a_source_of_no_views(tmp_path):
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    settings = replace(RefineSettings(scene, str(cameras), tmp_path / "out"), hold_out="none")
    inputs = read_inputs(settings)
    context = StoredImages(inputs.context, inputs, settings)
    none = StoredImages(inputs.held_out, inputs, settings)
    assert Refinement.of(settings, inputs.scene, context).score(inputs.scene, none) == []
