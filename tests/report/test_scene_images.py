"""A scene is shown from its images, from the scene itself, or from both; what comes out is the same."""

import numpy as np
import pytest
import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.io import write_ply
from diff3r_plugin.report.run_folder import EvaluationRun
from diff3r_plugin.report.scene_images import SceneImages

from .conftest import SIZE, write_run


@pytest.fixture(scope="module")
def images(run_folder):
    run = EvaluationRun.read(run_folder)
    return SceneImages.read(run.scenes[0].folder, run.settings)


def test_everything_is_there(images):
    assert [len(part) for part in (images.context, images.truth, images.before, images.after)] == [2, 2, 2, 2]
    assert images.after[0].shape == (SIZE, SIZE, 3)  # not the error maps, whose names end alike
    assert images.gaussians is not None and images.camera is not None


def test_the_scene_alone_gives_the_same_images(images, run_folder, tmp_path):
    write_run(tmp_path, names=("room_a",), pictures=False)
    run = EvaluationRun.read(tmp_path)
    alone = SceneImages.read(run.scenes[0].folder, run.settings)
    for name in ("context", "truth", "before", "after"):
        for first, second in zip(getattr(images, name), getattr(alone, name), strict=True):
            assert np.abs(first.astype(int) - second).max() <= 1


def test_the_refined_scene_is_the_one_that_was_written(tmp_path):
    write_run(tmp_path, names=("room_a",), pictures=False)
    folder = tmp_path / "diff3r" / "room_a"
    written = SavedScene.load(folder / "scene.pt").gaussians
    written = Gaussians(written.means + 1, written.covariances, written.opacities, written.harmonics)
    write_ply(folder / "after.ply", written)
    shown = SceneImages.read(folder, EvaluationRun.read(tmp_path).settings).gaussians
    assert shown is not None and (shown[1].means - written.means).abs().max() < 1e-6


def test_images_alone_give_no_scene(tmp_path):
    write_run(tmp_path, names=("room_a",), scenes=False)
    run = EvaluationRun.read(tmp_path)
    alone = SceneImages.read(run.scenes[0].folder, run.settings)
    assert len(alone.after) == 2 and alone.gaussians is None and alone.weights == {}


def test_errors_are_of_the_truth_and_fall(images):
    before, after = images.errors(0)
    expected = np.abs(images.before[0].astype(float) - images.truth[0]).mean(-1) / 255
    assert before == pytest.approx(expected, abs=1e-6)
    assert after.mean() < before.mean()


def test_maps_are_those_that_were_written(tmp_path):
    write_run(tmp_path, names=("room_a",))
    run, place = EvaluationRun.read(tmp_path), tmp_path / "diff3r" / "room_a"
    assert SceneImages.read(place, run.settings).weights == {}  # the Gaussians stand on no pixel grid
    values = torch.rand(2, SIZE, SIZE)
    torch.save({"weights": {"means": values}, "confidence": 1 - values}, place / "maps.pt")
    images = SceneImages.read(place, run.settings)
    assert images.weights["means"] == pytest.approx(values.numpy())
    assert images.confidence == pytest.approx(1 - values.numpy())
