"""Pretraining: where it goes on, and what is kept of it."""

import json

import pytest
import torch

from benchmarks.pretrain import Pretraining, export, step_of, validation_curve


def finished(folder, weights):
    settings = Pretraining(folder)
    (settings.run_folder / "checkpoints").mkdir(parents=True)
    (settings.run_folder / "local").mkdir()
    content = {"state_dict": weights, "global_step": 12, "pytorch-lightning_version": "2.0"}
    torch.save(content, settings.run_folder / "checkpoints" / "last.ckpt")
    lines = [
        {"step": 9, "loss/total": 1.0},
        {"step": 9, "val/psnr": 20.0, "val/ssim": 0.5, "val/depth_error": 0.2},
        {"step": 11, "val/psnr": 21.0, "val/ssim": 0.6, "val/depth_error": 0.1},
    ]
    (settings.run_folder / "local" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return settings


def test_weights_are_kept_in_half_precision_with_their_record(tmp_path):
    weights = {"encoder.a": torch.randn(3, 4), "encoder.b": torch.zeros(2)}
    settings = finished(tmp_path / "out", weights)
    record = export(settings, tmp_path / "kept" / "w.ckpt")
    content = torch.load(tmp_path / "kept" / "w.ckpt", weights_only=True)
    for name, value in weights.items():
        assert content["state_dict"][name].dtype == torch.float16
        torch.testing.assert_close(content["state_dict"][name].float(), value, rtol=1e-3, atol=1e-6)
    written = json.loads((tmp_path / "kept" / "w.json").read_text())
    assert written["steps"] == 12 and written["parameters"] == 14
    assert written["validation"] == {"step": 12, "psnr": 21.0, "ssim": 0.6, "depth_error": 0.1}
    assert str(tmp_path) not in json.dumps(written), "a record names no folder of the machine it was made on"
    assert record["validation_curve"] == validation_curve(settings.run_folder / "local" / "metrics.jsonl")


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path):
    settings = finished(tmp_path, {"encoder.a": torch.tensor([1e6])})
    with pytest.raises(ValueError, match=r"encoder\.a is not finite in half precision"):
        export(settings, tmp_path / "w.ckpt")


def test_files_too_large_to_be_kept_are_refused(tmp_path):
    settings = finished(tmp_path, {"encoder.a": torch.zeros(1_100_000)})
    with pytest.raises(ValueError, match="more than 2000000"):
        export(settings, tmp_path / "w.ckpt")


def test_the_latest_checkpoint_is_gone_on_from(tmp_path):
    names = ["epoch_1-step_500.ckpt", "epoch_20-step_10000.ckpt", "epoch_9-step_9500.ckpt"]
    assert max((tmp_path / name for name in names), key=step_of).name == "epoch_20-step_10000.ckpt"
