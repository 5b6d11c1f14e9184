"""Confidence in context pixels, as a setting of a host's training and test."""

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.plugin.settings.settings import PluginSettings


@pytest.fixture(scope="module")
def wrapper_class():
    return stub_host.make_wrapper_class(lightning.pytorch.LightningModule)


def fit(wrapper_class, folder, steps=2, ckpt_path=None, corrupted=False, views=None, **settings):
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, folder, **settings) as said:
        model = wrapper_class()
        trainer = stub_host.make_trainer(lightning.pytorch, folder, max_steps=steps)
        loader = stub_host.loader(steps, same=True)
        inner = loader.collate_fn

        def collate(items):
            batch = inner(items)
            if corrupted:
                batch["context"]["corrupted"] = torch.zeros_like(batch["context"]["image"][:, :, 0], dtype=torch.bool)
                batch["context"]["corrupted"][:, 1] = True
            if views is not None:
                batch["context"] = {name: value[:, :views] for name, value in batch["context"].items()}
            return batch

        loader.collate_fn = collate
        trainer.fit(model, loader, ckpt_path=ckpt_path)
        path = folder / f"step{steps}.ckpt"
        trainer.save_checkpoint(path)
    return model, path, said


def weights_of(model):
    return {name: p.detach().clone() for name, p in attachment_of(model).head.modules["confidence"].named_parameters()}


def test_the_host_trains_the_confidence_and_never_sees_it(wrapper_class, tmp_path):
    model, path, _ = fit(wrapper_class, tmp_path, confidence="learned")
    fresh = type(attachment_of(model).head.modules["confidence"])(feature_channels=4).to_view.bias
    trained = weights_of(model)
    assert (trained["to_view.bias"] - fresh).abs() > 0
    logged = model.trainer.callback_metrics
    assert 0 < logged["diff3r/confidence"] < 1 and logged["diff3r/without_confidence"] == 0
    content = torch.load(path, weights_only=True)
    assert not any("confidence" in name for name in content["state_dict"])
    assert not any("diff3r" in name for name, _ in model.named_parameters())
    assert set(content["diff3r"]["confidence"]) == set(trained)


def test_it_works_beside_fixed_weights(wrapper_class, tmp_path):
    model, _, _ = fit(wrapper_class, tmp_path, confidence="learned", head="fixed")
    assert set(attachment_of(model).head.modules) == {"confidence"}


def test_a_checkpoint_gives_it_back(wrapper_class, tmp_path):
    model, path, _ = fit(wrapper_class, tmp_path, confidence="learned")
    again, _, _ = fit(wrapper_class, tmp_path, ckpt_path=path, confidence="learned")  # no step is left to be done
    assert attachment_of(again).head.loaded == {"head", "confidence"}
    for name, value in weights_of(model).items():
        assert torch.equal(value, weights_of(again)[name])


def test_a_checkpoint_without_it_starts_it_anew_and_says_so(wrapper_class, tmp_path):
    _, path, _ = fit(wrapper_class, tmp_path)
    model, _, said = fit(wrapper_class, tmp_path, steps=3, ckpt_path=path, confidence="learned")
    assert attachment_of(model).head.loaded == {"head"}
    assert any("no confidence head" in line for line in said)


def test_supervision_lowers_the_confidence_in_what_the_data_calls_corrupted(wrapper_class, tmp_path):
    settings = {"confidence": "learned", "confidence_supervision": 1.0, "head_lr_multiplier": 3.0}
    model, _, _ = fit(wrapper_class, tmp_path, steps=8, corrupted=True, **settings)
    worst, mean = (model.trainer.callback_metrics[f"diff3r/confidence{part}"] for part in ("_worst_view", ""))
    assert mean < 0.93 and worst <= mean  # it started at 0.95


def test_supervision_trains_it_before_anything_is_refined(wrapper_class, tmp_path):
    settings = {"confidence": "learned", "confidence_supervision": 1.0, "head_lr_multiplier": 3.0, "warm_up_steps": 8}
    model, _, _ = fit(wrapper_class, tmp_path, steps=8, corrupted=True, **settings)
    fresh = type(attachment_of(model).head.modules["confidence"])(feature_channels=4).to_view.bias
    assert (weights_of(model)["to_view.bias"] < fresh - 0.01).all()
    assert not any(name.startswith("diff3r/") for name in model.trainer.callback_metrics), "no scene was refined"


def test_supervision_needs_data_that_knows(wrapper_class, tmp_path):
    with pytest.raises(PluginError, match="this batch says nothing"):
        fit(wrapper_class, tmp_path, confidence="learned", confidence_supervision=1.0)


def test_a_single_view_is_trusted_and_said_to_be_so_once(wrapper_class, tmp_path):
    model, _, said = fit(wrapper_class, tmp_path, views=1, confidence="learned")
    assert sum("one context view has no other" in line for line in said) == 1
    assert model.trainer.callback_metrics["diff3r/confidence"] == 1


def test_a_scene_without_confidence_keeps_its_prediction_and_is_counted(wrapper_class, tmp_path, monkeypatch):
    from diff3r_plugin.heads.confidence import ConfidenceHead

    monkeypatch.setattr(
        ConfidenceHead, "logits", lambda self, g, v, *_: v.images[:, :, 0] * 0 - 20 + self.to_view.bias * 0
    )
    model, _, _ = fit(wrapper_class, tmp_path, confidence="learned")
    logged = model.trainer.callback_metrics
    assert logged["diff3r/without_confidence"] > 0 and logged["diff3r/accepted_steps"] == 0
    assert logged["diff3r/fallbacks"] == 0, "nothing is wrong with the scene"


def test_a_test_writes_maps_and_saved_scenes_that_hold_the_confidence(wrapper_class, tmp_path):
    stub_host.StubAdapter.folder = tmp_path
    settings = {"confidence": "learned", "save_pictures": True, "save_scenes": True}
    with stub_host.plugged_in(wrapper_class, tmp_path, **settings):
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(1))
    place = next((tmp_path / "diff3r").iterdir())
    assert len(list(place.glob("confidence_*.png"))) == 2
    scene = SavedScene.load(place / "scene.pt")
    torch.testing.assert_close(scene.confidence, torch.full_like(scene.confidence, 0.95))


@pytest.mark.parametrize("word", ["off", False])
def test_yaml_makes_false_of_a_bare_off(word):
    assert PluginSettings.parse({"confidence": word}).confidence == "off"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confidence": "on"}, "confidence"),
        ({"confidence_supervision": 1.0}, "confidence=learned"),
        ({"confidence": "learned", "confidence_supervision": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(PluginError, match=message):
        PluginSettings.parse(settings)
