"""The search for the baseline's weights, and the evaluation of saved scenes that it rests on."""

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.demo.flag import fixed_weights, learned_weights, tto_config
from diff3r_plugin.demo.grid import GridPoint, search, search_steps
from diff3r_plugin.evaluation import SavedScene, evaluate, score
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.metrics import psnr
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.render import render

CONFIG = TTOConfig(inner_steps=2, backend="torch", groups=("means", "opacity", "sh_dc"))


@pytest.fixture(scope="module")
def scene() -> SavedScene:
    """A scene whose prediction is off in color, so that refinement helps on the held-out view as well."""
    gaussians, views = random_scene(batch=1, gaussians=10, views=3, size=(16, 16), dtype=torch.float32, seed=3)
    images = render(gaussians, views.replace(images=None), "torch").clamp(0, 1)
    shift = 0.4 * torch.randn(gaussians.harmonics[..., :1].shape, generator=torch.Generator().manual_seed(0))
    harmonics = torch.cat([gaussians.harmonics[..., :1] + shift, gaussians.harmonics[..., 1:]], -1)
    predicted = Gaussians(gaussians.means, gaussians.covariances, gaussians.opacities, harmonics)

    def part(which: slice) -> Views:
        return Views(
            views.world_to_camera[:, which],
            views.intrinsics[:, which],
            images[:, which],
            near=0.05,
            background=views.background,
        )

    return SavedScene("room", predicted, part(slice(0, 2)), part(slice(2, 3)))


def test_a_saved_scene_comes_back_as_it_was(scene, tmp_path):
    scene.save(tmp_path / "a" / "scene.pt")
    read = SavedScene.load(tmp_path / "a" / "scene.pt")
    assert read.name == "room" and read.weights == {}
    for mine, theirs in zip(scene.gaussians.tensors(), read.gaussians.tensors(), strict=True):
        assert torch.equal(mine, theirs)
    for kind in ("context", "target"):
        for name in ("images", "world_to_camera", "intrinsics", "near", "far", "background"):
            mine, theirs = (torch.as_tensor(getattr(getattr(s, kind), name)) for s in (scene, read))
            assert torch.equal(mine, theirs), (kind, name)


def test_other_files_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="save_scenes"):
        SavedScene.load(tmp_path / "other.pt")


def test_a_saved_scene_is_one_scene_with_images(scene):
    with pytest.raises(ValueError, match="target images"):
        replace(scene, target=scene.target.replace(images=None, image_size=(16, 16)))


def test_evaluation_is_refinement_on_the_context_and_scores_on_the_target(scene):
    weights = {group: 0.1 for group in CONFIG.groups}
    scores = evaluate(scene, CONFIG, weights)
    with torch.no_grad():
        refined, info = TTOLayer(CONFIG)(scene.gaussians, scene.context, weights)
        rendered = render(refined, scene.target, "torch")
    assert scores.after["psnr"] == pytest.approx(float(psnr(scene.target.images, rendered).mean()), abs=1e-5)
    assert scores.before == score(scene, scene.gaussians, "torch")
    assert scores.after["psnr_context"] > scores.before["psnr_context"]
    assert scores.info.energy.tolist() == info.energy.tolist()


def test_search_tries_everything_and_keeps_the_best(scene):
    seen = []
    found = search([scene], CONFIG, (1.0, 1e6), (1, 2), (0.1,), lambda *call: seen.append(call))
    assert seen == [(point, number, 2 * 2 + 3) for number, point in enumerate(found.points, 1)]
    assert len(seen) == 2 * 2 + 3
    assert found.best.psnr == max(point.psnr for point in found.points) > found.psnr_before
    grid = found.points[:4]
    assert [(p.steps, p.weights["means"] / GROUPS["means"].weight) for p in grid] == [
        (1, 1.0), (2, 1.0), (1, 1e6), (2, 1e6),
    ]  # fmt: skip
    # weights a million times too large hold everything in place
    assert grid[2].psnr == pytest.approx(found.psnr_before, abs=0.05)
    # in the pass over the groups, one weight differs from the best so far
    best = max(grid, key=lambda point: point.psnr)
    first = found.points[4]
    assert first.steps == best.steps
    assert first.weights == {**best.weights, "means": 0.1 * best.weights["means"]}


def test_search_needs_something_to_search(scene):
    with pytest.raises(ValueError, match="needs scenes"):
        search([], CONFIG, (1.0,), (1,), ())


def test_the_best_point_becomes_settings_that_the_plugin_accepts():
    words = ("diff3r.inner_solver=adam", "diff3r.inner_steps=9", "diff3r.head_width=8", "diff3r.groups=[means,opacity]")
    assert tto_config(words) == TTOConfig(inner_solver="adam", inner_steps=9, groups=("means", "opacity"))
    best = GridPoint(3, {"means": 0.5, "opacity": 20.0}, psnr=20.0, ssim=0.5, seconds=0.1)
    chosen = fixed_weights(best, words)
    assert "diff3r.head_width=8" not in chosen
    assert chosen[:2] == (words[0], words[3])
    assert tto_config(chosen) == TTOConfig(inner_solver="adam", inner_steps=3, groups=("means", "opacity"))
    weights = {w.split(".")[2].split("=")[0]: float(w.split("=")[1]) for w in chosen if ".weights." in w}
    assert PluginSettings.parse({"head": "fixed", "weights": weights}).weights == best.weights


def test_steps_are_searched_with_the_weights_that_came_with_the_scene(scene, tmp_path):
    weights = {"means": torch.full((1, 10, 1), 0.5), "opacity": 0.2, "sh_dc": torch.rand(1, 10, 1) + 0.01}
    replace(scene, weights=weights).save(tmp_path / "scene.pt")
    learned = SavedScene.load(tmp_path / "scene.pt")
    seen = []
    found = search_steps([learned], CONFIG, [0, 1, 3], lambda point, *counts: seen.append((point.steps, *counts)))
    assert seen == [(0, 1, 3), (1, 2, 3), (3, 3, 3)]
    assert found.best.psnr == max(point.psnr for point in found.points) > found.psnr_before
    alone = evaluate(learned, replace(CONFIG, inner_steps=3), weights)
    assert found.points[2].psnr == pytest.approx(alone.after["psnr"])
    assert found.points[0].psnr == pytest.approx(found.psnr_before)
    words = learned_weights(found.best, ("diff3r.inner_steps=7", "diff3r.head_width=8"))
    assert words == ("diff3r.head_width=8", f"diff3r.inner_steps={found.best.steps}")
    with pytest.raises(ValueError, match="scenes with weights"):
        search_steps([scene], CONFIG, [1])
