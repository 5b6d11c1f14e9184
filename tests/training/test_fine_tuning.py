"""A tiny network learns what refines well, resumes where it stopped, and needs no cameras of the data."""

import sys

import pytest
import torch
from lightning.pytorch import Trainer
from training.tiny import TinyNetwork, V, batch, loader

from diff3r_plugin import TTOConfig, UncertaintyHead
from diff3r_plugin.training import FineTuning

CONFIG = TTOConfig(groups=("means", "opacity", "sh_dc"), inner_steps=2, stationarity_warning=None)


def module(predicts_cameras=False, **options) -> FineTuning:
    network = TinyNetwork(predicts_cameras)
    head = UncertaintyHead(CONFIG.groups, feature_channels=5, hidden=8)
    return FineTuning(network, head, config=CONFIG, learning_rate=3e-3, head_learning_rate=1e-2, **options)


def trainer(folder, steps, **options) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **{"num_sanity_val_steps": 0, **options},
    )


@pytest.mark.parametrize("predicts_cameras", [False, True], ids=["cameras of the data", "predicted cameras"])
def test_the_loss_falls_and_validation_tells_before_from_after(tmp_path, predicts_cameras):
    tuned = module(predicts_cameras)
    losses = []
    tuned.log = lambda name, value, **rest: losses.append(float(value)) if name == "train/mse" else None
    trainer(tmp_path, 25).fit(tuned, loader(25))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    del tuned.log
    (figures,) = trainer(tmp_path, 1).validate(tuned, loader(2), verbose=False)
    assert figures["val/psnr_context_after"] > figures["val/psnr_context_before"]
    assert figures["val/psnr_after"] > figures["val/psnr_before"] and "val/ssim_after" in figures


def test_every_trained_part_gets_a_gradient(tmp_path):
    tuned = module(predicts_cameras=True)
    tuned.log = lambda *a, **k: None
    with torch.no_grad():  # a head whose last layer is zero hands its inner layers nothing
        tuned.head.layers[-1].weight.normal_()
    tuned.training_step(batch(0), 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.parameters())


def test_targets_are_seen_from_where_they_stand_among_the_predicted_cameras():
    tuned = module(predicts_cameras=True)
    scene = tuned(batch(0))
    assert scene.target.world_to_camera[0, 0, 0, 3].item() == pytest.approx(-0.05)  # half of the data's distance
    assert scene.context.num_views == V and scene.context.world_to_camera.requires_grad


def test_a_run_that_was_cut_resumes_to_the_same_weights(tmp_path):
    whole, first, rest = module(), module(), module()
    trainer(tmp_path, -1, max_epochs=2).fit(whole, loader(3))
    half = trainer(tmp_path, -1, max_epochs=1)
    half.fit(first, loader(3))
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, -1, max_epochs=2).fit(rest, loader(3), ckpt_path=tmp_path / "half.ckpt")
    for (name, wanted), found in zip(whole.state_dict().items(), rest.state_dict().values(), strict=True):
        assert torch.equal(wanted, found), name
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), rest.parameters(), strict=True))


def test_without_a_head_the_weights_are_numbers():
    tuned = FineTuning(TinyNetwork(), config=CONFIG, weights={"means": 2.0})
    assert tuned.weights.means == 2.0 and tuned.weights.sh_dc == 0.1
    assert tuned(batch(0)).info.accepted_steps.min() > 0
    assert len(tuned.configure_optimizers().param_groups) == 1


def test_a_frozen_network_leaves_the_head_to_be_trained():
    tuned = module()
    tuned.network.requires_grad_(False)
    (group,) = tuned.configure_optimizers().param_groups
    assert group["lr"] == 1e-2


def test_lpips_is_a_loss_and_no_part_of_the_module(monkeypatch):
    class Lpips(torch.nn.Conv2d):
        def __init__(self, net, verbose):
            super().__init__(3, 1, 3)

        def forward(self, rendered, images, normalize):
            assert normalize
            return (super().forward(rendered) - super().forward(images)).square().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", type(sys)("lpips"))
    sys.modules["lpips"].LPIPS = Lpips
    logged = {}
    tuned = module(lpips=0.5)
    tuned.log = lambda name, value, **rest: logged.update({name: float(value)})
    loss = tuned.training_step(batch(0), 0)
    assert loss.item() == pytest.approx(logged["train/mse"] + 0.5 * logged["train/lpips"])
    assert set(tuned.state_dict()) == set(module().state_dict())


def test_a_missing_lpips_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match="pip install lpips"):
        module(lpips=0.5)


def test_poses_are_refused():
    with pytest.raises(ValueError, match="moves no poses"):
        FineTuning(TinyNetwork(), config=TTOConfig(groups=("means", "poses")))
