"""The page of captured test windows: which are shown, and that their scores are those of the study."""

from types import SimpleNamespace

import torch
from scenes import refinable_scene

from benchmarks.study.captured import customary_scores
from benchmarks.study.captured_page import write_page
from benchmarks.study.captured_trainings import VALIDATION
from benchmarks.study.refinement import Choice, scores
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.optimize import CustomaryTTO


def saved(name, seed):
    scene, views = refinable_scene(gaussians=8, size=(16, 16), seed=seed, dtype=torch.float32)
    return SavedScene(name, scene, views, views)


def test_the_page_shows_the_first_window_of_each_scene_with_the_scores_of_the_study(tmp_path):
    scenes = {VALIDATION: [saved("v_00", 0)], "six": [saved("a_00", 1), saved("a_01", 2), saved("b_00", 3)]}
    choice = Choice(2, dict.fromkeys(TTOConfig().groups, 0.1), 20.0, 1)
    tests = {
        label: {"rooms": [s.name for s in found], "scores": scores(found, choice, TTOConfig())}
        for label, found in scenes.items()
    }
    by_label = {label: customary_scores(found, CustomaryTTO(steps=(3,), loss="mse")) for label, found in scenes.items()}
    plain = {"tests": tests, "choice": {"steps": 2, "weights": choice.weights}}
    units = {"start": plain, "plain, seed 1": {**plain, "customary": {"mse": by_label}}}
    trainings = SimpleNamespace(captured_scenes=lambda training: scenes)
    training = SimpleNamespace(words=())
    page = tmp_path / "page.html"
    write_page(trainings, {"units": units}, {"start": None, "plain, seed 1": training}, page)
    text = page.read_text()
    assert "a_00" in text and "b_00" in text and "a_01" not in text and "v_00" not in text
    assert text.count("plain fine-tuning") == 2 and text.count("the host they start from") == 2
    for place in (0, 2):
        of_layer = tests["six"]["scores"]
        assert text.count(f"<figcaption>before TTO: {of_layer['psnr_before'][place]:.2f} dB") == 2
        assert text.count(f"<figcaption>the layer, 2 steps: {of_layer['psnr_after'][place]:.2f} dB") == 2
        assert f"the customary TTO, 3 steps: {by_label['six']['3']['psnr_after'][place]:.2f} dB" in text
    per_window = len(scenes["six"][0].context.images[0]) + 1 + 2 + 3
    assert text.count("data:image/png;base64,") == 2 * per_window
