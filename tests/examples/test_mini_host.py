"""The miniature host as its users meet it: train, resume, fine-tune and test, each by its command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import diff3r_plugin.drop_in
from diff3r_plugin.data import DataOptions, make_data

ROOT = Path(__file__).parents[2]
HOST = ROOT / "examples" / "mini_host"
RASTERIZER = Path(diff3r_plugin.drop_in.__file__).parent / "site"

pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("dacite")


def run_host(*overrides: str, command: tuple[str, ...] = ("-m", "src.main"), succeeds: bool = True) -> str:
    """Run the host; returns what it printed. Fails with its output unless it ends as expected."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HYDRA_FULL_ERROR": "1",
        "PYTHONPATH": os.pathsep.join([str(RASTERIZER), str(ROOT)]),
    }
    environment.pop("DIFF3R_PLUGIN", None)
    done = subprocess.run(
        [sys.executable, *command, "+experiment=re10k", *overrides],
        cwd=HOST,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode == 0) == succeeds, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout if succeeds else done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    make_data(folder, DataOptions(train=2, val=1, test=2, frames=8, size=32, supersample=2), workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def common(data) -> list[str]:
    return [
        f"dataset.roots=[{data}]",
        "dataset.image_shape=[32,32]",
        "dataset.view_sampler.min_distance_between_context_views=3",
        "dataset.view_sampler.max_distance_between_context_views=4",
        "data_loader.train.batch_size=2",
        "trainer.accelerator=cpu",
        "trainer.val_check_interval=1000",
        "trainer.log_every_n_steps=1",
        "trainer.progress_bar=false",
        "optimizer.warm_up_steps=3",
    ]


@pytest.fixture(scope="module")
def trained(common, tmp_path_factory) -> Path:
    """A run of 24 steps, with checkpoints at steps 16 and 24."""
    folder = tmp_path_factory.mktemp("trained")
    run_host(
        f"hydra.run.dir={folder}", "trainer.max_steps=24", "checkpointing.every_n_train_steps=8",
        "trainer.num_sanity_val_steps=1", "trainer.limit_val_batches=1", *common,
    )  # fmt: skip
    return folder


def metrics(folder: Path) -> dict[int, dict[str, float]]:
    """Training metrics of a run, by step."""
    lines = (folder / "local" / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line for line in map(json.loads, lines) if "loss/total" in line}


def checkpoint(folder: Path, step: int) -> Path:
    (found,) = (folder / "checkpoints").glob(f"*step_{step}.ckpt")
    return found


def test_training_lowers_the_loss(trained):
    losses = [metrics(trained)[step]["loss/total"] for step in range(24)]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_run_folder_holds_config_checkpoints_and_pictures(trained):
    assert "max_steps: 24" in (trained / ".hydra" / "config.yaml").read_text()
    state = torch.load(checkpoint(trained, 24), map_location="cpu", weights_only=False)
    assert state["global_step"] == 24
    assert any(key.startswith("encoder.to_gaussians.") for key in state["state_dict"])
    assert list((trained / "local" / "comparison").glob("*.png"))


def test_resumed_run_goes_on_as_if_never_stopped(trained, common, tmp_path):
    run_host(
        f"hydra.run.dir={tmp_path}", "trainer.max_steps=24", f"checkpointing.load={checkpoint(trained, 16)}",
        "checkpointing.every_n_train_steps=8", "trainer.num_sanity_val_steps=0", *common,
    )  # fmt: skip
    assert min(metrics(tmp_path)) == 16
    whole = torch.load(checkpoint(trained, 24), map_location="cpu", weights_only=False)
    resumed = torch.load(checkpoint(tmp_path, 24), map_location="cpu", weights_only=False)
    assert resumed["global_step"] == 24
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, msg=name)


def test_fine_tuning_takes_the_weights_and_starts_at_step_zero(trained, common, tmp_path):
    source = checkpoint(trained, 24)
    run_host(
        f"hydra.run.dir={tmp_path}", "trainer.max_steps=2", f"checkpointing.load={source}",
        "checkpointing.resume=false",
        "checkpointing.every_n_train_steps=2", "trainer.num_sanity_val_steps=0", "optimizer.lr=1e-12", *common,
    )  # fmt: skip
    assert sorted(metrics(tmp_path)) == [0, 1]
    before = torch.load(source, map_location="cpu", weights_only=False)["state_dict"]
    after = torch.load(checkpoint(tmp_path, 2), map_location="cpu", weights_only=False)["state_dict"]
    for name, value in before.items():  # the rate is all but zero, so these are the loaded weights
        torch.testing.assert_close(after[name], value, msg=name)


def test_depth_loss_trains_on_data_with_depths_and_says_what_is_missing_without(common, tmp_path):
    short = ["trainer.max_steps=2", "trainer.num_sanity_val_steps=0", "checkpointing.every_n_train_steps=2"]
    depth_loss = ["loss=[mse,ssim,depth]", *short]
    error = run_host(f"hydra.run.dir={tmp_path}/without", *common, *depth_loss, succeeds=False)
    assert "diff3r make-data --depths" in error
    options = DataOptions(train=2, val=1, test=0, frames=8, size=32, supersample=1, depths=True)
    make_data(tmp_path / "rooms", options, workers=1, progress=False)
    run_host(
        f"hydra.run.dir={tmp_path}/with", *common, *depth_loss, f"dataset.roots=[{tmp_path}/rooms]",
        "dataset.view_sampler.extra_context_views=1", "train.extra_context_share=0.5", "trainer.val_check_interval=2",
    )  # fmt: skip
    assert all(0 < line["loss/depth"] < 1 for line in metrics(tmp_path / "with").values())
    lines = map(json.loads, (tmp_path / "with" / "local" / "metrics.jsonl").read_text().splitlines())
    assert any(0 < line.get("val/depth_error", 0) < 1 for line in lines)


def test_testing_writes_scores_and_pictures(trained, common, data, tmp_path):
    output = run_host(
        "mode=test", "dataset/view_sampler=evaluation",
        f"dataset.view_sampler.index_path={data}/evaluation_index_test.json",
        f"checkpointing.load={checkpoint(trained, 24)}", f"test.output_path={tmp_path}/scores",
        f"hydra.run.dir={tmp_path}",
        *[o for o in common if "distance_between" not in o],
        command=("src/main.py",),
    )  # fmt: skip
    scores = json.loads((tmp_path / "scores" / "scores_per_scene.json").read_text())
    assert list(scores) == ["room_test_00000", "room_test_00001"]
    assert all(12 < s["psnr"] < 50 and 0 < s["ssim"] <= 1 for s in scores.values())
    averages = json.loads((tmp_path / "scores" / "scores_all_avg.json").read_text())
    assert averages["psnr"] == pytest.approx(sum(s["psnr"] for s in scores.values()) / 2)
    assert json.loads((tmp_path / "scores" / "scores_psnr_all.json").read_text()) == [
        s["psnr"] for s in scores.values()
    ]
    assert f"psnr {averages['psnr']:.3f}" in output
    index = json.loads((data / "evaluation_index_test.json").read_text())
    for scene, views in index.items():
        images = sorted(p.name for p in (tmp_path / "scores" / scene / "color").glob("*.png"))
        assert images == [f"{frame:06d}.png" for frame in views["target"]]
    assert set(json.loads((tmp_path / "scores" / "benchmark.json").read_text())) == {"encoder", "decoder"}
