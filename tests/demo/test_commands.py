"""The host's command lines: where a training starts from, and how fast it learns."""

from pathlib import Path

import pytest

from diff3r_plugin.demo import DemoError, DemoSettings
from diff3r_plugin.demo import host as demo_host
from diff3r_plugin.demo.commands import HostArguments


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "mini_host" / "pretrained" / "mini_host.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(demo_host, "host_folder", lambda: tmp_path / "mini_host")
    return path


def training(settings):
    return HostArguments(settings, Path("rooms"), Path("runs")).training("plain", settings.steps)


@pytest.mark.parametrize("make", [DemoSettings, DemoSettings.tiny])
def test_fine_tuning_takes_the_pretrained_weights_and_starts_at_step_zero(weights, make):
    words = training(make())
    assert f"checkpointing.load={weights}" in words and "checkpointing.resume=false" in words
    assert "optimizer.lr=0.0002" in words


def test_from_scratch_takes_no_weights_and_learns_faster(weights):
    words = training(DemoSettings.from_scratch())
    assert not any(word.startswith("checkpointing.load") for word in words)
    assert "optimizer.lr=0.002" in words and "trainer.max_steps=1100" in words
    assert "diff3r.warm_up_steps=825" in DemoSettings.from_scratch().plugin_arguments


def test_fine_tuning_refines_from_the_first_step():
    assert "diff3r.warm_up_steps=0" in DemoSettings().plugin_arguments


def test_missing_weights_are_named_with_what_to_do(weights):
    weights.unlink()
    with pytest.raises(DemoError, match=r"no pretrained weights at .*--from-scratch"):
        training(DemoSettings())
