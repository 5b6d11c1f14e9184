"""A host that does not show its encoder the context poses: which poses refine its scenes, and what the test says."""

import dataclasses
import json
import math
from unittest import mock

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.plugin.refining.context_poses import FIRST_VIEW_WEIGHT, described, poses_of_stages, with_pose_weights
from diff3r_plugin.plugin.refining.pose_sources import SOURCES
from diff3r_plugin.plugin.settings.settings import CONTEXT_POSES, PluginSettings
from diff3r_plugin.proximal import ProximalWeights


@pytest.fixture(autouse=True)
def pose_free(monkeypatch):
    monkeypatch.setattr(stub_host.StubAdapter, "encoder_sees_poses", False)
    monkeypatch.setattr(stub_host, "batch", with_the_encoders_camera(stub_host.batch))
    torch.manual_seed(1)


def with_the_encoders_camera(make):
    """Batches whose intrinsics are the ones by which the stub's encoder puts points on the rays of pixels."""

    def batch(seed=0):
        made = make(seed)
        for views in (made["context"], made["target"]):
            views["intrinsics"] = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand_as(views["intrinsics"])
        return made

    return batch


def stages(**settings):
    found = poses_of_stages(PluginSettings.parse(settings), stub_host.StubAdapter())
    return {stage: source.name for stage, source in found.items()}


def test_the_data_is_asked_in_training_only_unless_somebody_says_so():
    assert stages() == {"train": "batch", "val": "estimate", "test": "estimate"}
    assert stages(context_poses="batch") == dict.fromkeys(("train", "val", "test"), "batch")
    assert stages(context_poses="estimate") == dict.fromkeys(("train", "val", "test"), "estimate")
    assert stages(refine=["train"]) == {"train": "batch"}
    sources = poses_of_stages(PluginSettings.parse({}), stub_host.StubAdapter())
    assert described(sources) == "batch in train, estimate in val/test"


def test_hosts_that_are_given_poses_keep_them(monkeypatch):
    monkeypatch.setattr(stub_host.StubAdapter, "encoder_sees_poses", True)
    assert set(stages().values()) == {"batch"}
    with pytest.raises(PluginError, match=r"context_poses=estimate does not fit adapter 'stub'.*use batch"):
        stages(context_poses="estimate")


def test_a_host_that_is_given_poses_has_nothing_to_explain(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stub_host.StubAdapter, "encoder_sees_poses", True)
    _, _, scores = run_test(tmp_path)
    assert scores["context_poses"] == "batch" and scores["encoder_sees_context_poses"] is True
    assert "context poses" not in capsys.readouterr().out


def test_settings_that_nothing_would_use_are_refused():
    assert stages(weights={"poses": 3.0})["test"] == "estimate"
    with pytest.raises(PluginError, match=r"diff3r\.weights\.poses is set, but no pose moves"):
        stages(weights={"poses": 3.0}, context_poses="batch")
    with pytest.raises(
        PluginError, match=r"unknown value of diff3r.context_poses: 'estimated'.*Did you mean 'estimate'"
    ):
        PluginSettings.parse({"context_poses": "estimated"})


@pytest.mark.parametrize("given", [None, 7.0, torch.tensor([[[2.0], [7.0], [9.0]]])])
def test_the_first_view_is_held(given):
    settings = PluginSettings.parse({"weights": {"poses": 5.0}})
    weights = with_pose_weights(ProximalWeights(means=0.5, poses=given), settings, 1, 3)
    wanted = {None: [5.0, 5.0], 7.0: [7.0, 7.0]}.get(given, [7.0, 9.0]) if not torch.is_tensor(given) else [7.0, 9.0]
    assert weights.poses[0, :, 0].tolist() == [FIRST_VIEW_WEIGHT, *wanted] and weights.means == 0.5


def settled(module, inputs, output):
    """What a trained network does: points near the rays of their pixels."""
    return torch.cat([0.02 * output[:, :1], output[:, 1:]], 1)


def run_test(folder, corrupt=settled, forget_poses=False, **settings):
    """One test of a fresh model; what the attachment refined last, what it said, and the scores file."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    torch.manual_seed(1)
    kept = []
    with stub_host.plugged_in(wrapper_class, folder, inner_steps=4, **settings) as said:
        model = wrapper_class()
        model.encoder.to_gaussians.register_forward_hook(corrupt)
        refiner = attachment_of(model).refiner
        call = type(refiner).__call__

        def remembering(output, made):
            if forget_poses:
                context = {k: v for k, v in refiner.adapter.context_of(made).items() if k != "extrinsics"}
                made = dataclasses.replace(made, arguments=(context, *made.arguments[1:]))
            kept.append(call(refiner, output, made))
            return kept[-1]

        with mock.patch.object(type(refiner), "__call__", lambda self, *arguments: remembering(*arguments)):
            stub_host.make_trainer(lightning.pytorch, folder).test(model, stub_host.loader(1), verbose=False)
    return kept[-1], said, json.loads((folder / "diff3r_scores.json").read_text())


def test_the_test_estimates_and_says_so(tmp_path, capsys):
    refinement, said, scores = run_test(tmp_path)
    line = next(line for line in capsys.readouterr().out.splitlines() if "context poses" in line)
    assert "estimated from the prediction" in line and "0 of 2 scenes without poses" in line
    assert scores["context_poses"] == "estimate" and scores["encoder_sees_context_poses"] is False
    assert scores["settings"]["context_poses"] == "auto" and not said
    for entry in scores["scenes"]:
        assert entry["outcome"] == "refined" and 0.2 < entry["pose_inliers"] <= 1
        assert entry["pose_rotation_error_before"] < 10, "both views look the same way"
        assert entry["after"]["psnr_context"] > entry["before"]["psnr_context"]
    assert torch.allclose(refinement.refined_views.world_to_camera[:, 0], torch.eye(4), atol=1e-5)
    assert not torch.equal(refinement.refined_views.world_to_camera[:, 1], refinement.views.world_to_camera[:, 1])


def test_the_poses_of_the_data_do_not_leak_into_the_estimate(tmp_path):
    with_poses, _, _ = run_test(tmp_path)
    without, _, scores = run_test(tmp_path, forget_poses=True)
    for one, other in zip(with_poses.refined.tensors(), without.refined.tensors(), strict=True):
        assert torch.equal(one, other)
    assert scores["scenes"][0]["pose_rotation_error_before"] is None, "there is nothing to compare with"
    batch, _, _ = run_test(tmp_path, context_poses="batch")
    assert not torch.equal(batch.refined.means, with_poses.refined.means)


def test_poses_of_the_data_are_named_where_they_are_used(tmp_path, capsys):
    refinement, _, scores = run_test(tmp_path, context_poses="batch")
    assert "does not see" in capsys.readouterr().out and scores["context_poses"] == "batch"
    assert refinement.poses is None and "pose_inliers" not in scores["scenes"][0]


def test_a_scene_without_poses_keeps_its_gaussians_and_is_counted(tmp_path, capsys):
    def throw_first_scene_about(module, inputs, output):  # 2 scenes of 2 views
        return torch.cat([100 * torch.randn_like(output[:2]), settled(module, inputs, output)[2:]])

    refinement, said, scores = run_test(tmp_path, corrupt=throw_first_scene_about, save_scenes=True, save_pictures=True)
    first, second = scores["scenes"]
    assert first["outcome"] == "invalid_views" and second["outcome"] == "refined" and scores["fallbacks"] == 1
    assert first["after"]["psnr"] == first["before"]["psnr"] and first["after"]["psnr_context"] is None
    assert torch.equal(refinement.refined.means[0], refinement.gaussians.means[0])
    assert scores["mean"]["psnr_context"]["after"]["mean"] == second["after"]["psnr_context"]
    (line,) = [line for line in said if "initial Gaussians" in line]
    assert "pixels agree with the pose of view 0" in line and "1 of 2 scenes without poses" in capsys.readouterr().out
    folder = tmp_path / "diff3r"
    assert (folder / "scene0_1" / "scene.pt").exists() and not (folder / "scene0_0" / "scene.pt").exists()


def test_training_on_estimated_poses_reaches_the_network_and_the_head(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    groups = ["means", "opacity", "poses"]
    with stub_host.plugged_in(wrapper_class, tmp_path, context_poses="estimate", groups=groups):
        model = wrapper_class()
        model.encoder.to_gaussians.register_forward_hook(settled)
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path)
        trainer.fit(model, stub_host.loader(3))
    base = attachment_of(model).head.modules["head"].base_weights()
    assert base["means"] != 0.01 and base["opacity"] != 0.01 and base["poses"] == pytest.approx(100.0, rel=1e-3)
    for name in ("pose_inliers", "pose_rotation_error_after", "weight_poses"):
        assert math.isfinite(trainer.callback_metrics[f"diff3r/{name}"])
    assert trainer.callback_metrics["diff3r/weight_poses"] < 1e4, "the first view's holding weight is not a figure"


def test_a_checkpoint_trained_with_given_poses_is_tested_with_estimated_ones(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, max_steps=1)
        trainer.fit(model, stub_host.loader(1))
        assert "diff3r/pose_inliers" not in trainer.callback_metrics
        trainer.save_checkpoint(tmp_path / "one.ckpt")
        fresh = stub_host.make_trainer(lightning.pytorch, tmp_path)
        fresh.test(wrapper_class(), stub_host.loader(1), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert scores["head_from_checkpoint"] and scores["context_poses"] == "estimate"


def test_the_setting_knows_every_source():
    assert set(CONTEXT_POSES) == {"auto", *SOURCES}
