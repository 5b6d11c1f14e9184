"""The miniature host, unedited, with the package installed from a wheel: every way of running it."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from plugin.conftest import ROOT, Environment

from diff3r_plugin.plugin.scoring.score_lines import ScoreLines

pytestmark = pytest.mark.slow
MINI_HOST = ROOT / "examples" / "mini_host"
FLAG = ("--plugin", "diff3r")


class Host:
    """A copy of the miniature host, with data, in an environment."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment, self.folder = environment, folder
        self.checkout = folder / "mini_host"
        shutil.copytree(MINI_HOST, self.checkout, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
        options = "--train 2 --val 1 --test 4 --frames 12 --size 32 --workers 1".split()
        environment.run("-m", "diff3r_plugin.cli", "make-data", folder / "data", *options)

    def run(self, name: str, *arguments, start=("-m", "src.main"), check=True, env=None):
        """Run its main with tiny settings; what it writes lands in a folder of that name."""
        arguments = self.command(name, *arguments, start=start)
        return self.environment.run(*arguments, cwd=self.checkout, check=check, env=env)

    def command(self, name: str, *arguments, start=("-m", "src.main")) -> list:
        tiny = [
            "+experiment=re10k",
            f"dataset.roots=[{self.folder / 'data'}]",
            "dataset.image_shape=[32,32]",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            "trainer.log_every_n_steps=1",
            "trainer.num_sanity_val_steps=0",
            "checkpointing.every_n_train_steps=1",
            f"hydra.run.dir={self.folder / name}",
            f"test.output_path={self.folder / name / 'test'}",
        ]
        return [*start, *tiny, *arguments]

    def train(self, name: str, steps: int, *arguments, **options):
        return self.run(name, "mode=train", f"trainer.max_steps={steps}", *arguments, **options)

    def test(self, name: str, checkpoint: Path, *arguments, **options):
        return self.run(name, *self.of_test(checkpoint), *arguments, **options)

    def of_test(self, checkpoint: Path) -> list[str]:
        index = self.folder / "data" / "evaluation_index_test.json"
        sampler = ["dataset/view_sampler=evaluation", f"dataset.view_sampler.index_path={index}"]
        return ["mode=test", *sampler, f"checkpointing.load={checkpoint}"]

    def scores(self, name: str) -> dict:
        return json.loads((self.folder / name / "test" / "diff3r_scores.json").read_text())

    def checkpoint(self, name: str) -> Path:
        return self.folder / name / "checkpoints" / "last.ckpt"

    def metrics(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.folder / name / "local" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def host(wheel_environment, tmp_path_factory):
    return Host(wheel_environment, tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def plain(host):
    host.train("plain", 2, env=serving_drop_in(host))
    return host.checkpoint("plain")


@pytest.fixture(scope="module")
def plugged(host):
    """Trained with the flag, as ``python src/main.py`` and in a copy without the jaxtyping hook."""
    other = host.folder / "without_hook"
    shutil.copytree(host.checkout, other)
    main = other / "src" / "main.py"
    text = main.read_text()
    assert text.count("with install_import_hook(") == 1
    main.write_text(text.replace('with install_import_hook(("src",), ("beartype", "beartype")):', "if True:"))
    done = host.train(
        "plugged", 2, *FLAG, "diff3r.inner_steps=2", "diff3r.log_every=1", start=(other / "src" / "main.py",)
    )
    assert "adapter mini_host" in done.stderr and "drop-in rasterizer" in done.stderr
    return host.checkpoint("plugged")


def test_without_the_flag_the_run_is_that_of_an_environment_without_the_package_hook(host, plain):
    # -S leaves out site-packages with all its hooks; the launcher puts back the folders alone
    folders = [str(host.environment.site), *(host.environment.site / "zz_outer.pth").read_text().split()]
    drop_in = host.environment.site / "diff3r_plugin" / "drop_in" / "site"
    launcher = host.folder / "launcher.py"
    launcher.write_text(
        f"import runpy, sys\nsys.path[:0] = [{str(host.checkout)!r}]\nsys.path += {[*folders, str(drop_in)]!r}\n"
        "runpy.run_module('src.main', run_name='__main__', alter_sys=True)\n"
    )
    host.train("bare", 2, start=("-S", launcher))
    with_hook, without = (torch.load(path, weights_only=False) for path in (plain, host.checkpoint("bare")))
    assert set(with_hook) == set(without) and "diff3r" not in with_hook
    for name, value in without["state_dict"].items():
        assert torch.equal(value, with_hook["state_dict"][name]), name
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (with_hook, without)]
    for index in moments[1]:
        assert torch.equal(moments[0][index]["exp_avg"], moments[1][index]["exp_avg"])
    drop = ("diff3r", "epoch")
    for first, second in zip(host.metrics("plain"), host.metrics("bare"), strict=True):
        assert first == second and not any(key.startswith(drop[0]) for key in first)


def test_the_flag_refines_logs_and_is_saved_with_the_configuration(host, plugged):
    config = (host.folder / "plugged" / ".hydra" / "config.yaml").read_text()
    assert "diff3r:\n  inner_steps: 2\n" in config and "version: " in config
    last = host.metrics("plugged")[-1]
    for name in ("psnr_context", "psnr_target"):
        assert f"diff3r/{name}_before" in last and f"diff3r/{name}_after" in last
    assert last["diff3r/psnr_context_after"] > last["diff3r/psnr_context_before"]
    assert {"diff3r/stationarity", "diff3r/pcg_relative_residual", "diff3r/seconds", "diff3r/head_lr"} <= set(last)
    recorded = json.loads((host.folder / "plugged" / "diff3r_settings.json").read_text())["settings"]
    assert recorded["log_every"] == 1 and recorded["tto"]["inner_steps"] == 2 and recorded["head_width"] == 32
    checkpoint = torch.load(plugged, weights_only=False)
    assert checkpoint["diff3r"]["settings"] == recorded
    assert checkpoint["diff3r"]["head"] and not any("diff3r" in key for key in checkpoint["state_dict"])


@pytest.fixture(scope="module")
def tested(host, plugged):
    return host.test("tested", plugged, *FLAG, "diff3r.inner_steps=25", "diff3r.save_pictures=true")


def test_the_hosts_test_command_reports_before_and_after(host, plugged, tested):
    scores = host.scores("tested")
    assert scores["head_from_checkpoint"] and len(scores["scenes"]) == 4 and "PSNR before" in tested.stdout
    assert "src.main" in scores["command"] and "--plugin diff3r" in scores["command"]
    assert scores["checkpoint"]["path"] == str(plugged) and scores["metrics"]["ssim"] == "host"
    own = json.loads((host.folder / "tested" / "test" / "scores_per_scene.json").read_text())
    for entry in scores["scenes"]:
        for metric in ("psnr", "ssim"):
            assert entry["after"][metric] == pytest.approx(own[entry["scene"]][metric], abs=1e-3)
    assert list((host.folder / "tested" / "test" / "diff3r").rglob("weight_means_0.png"))


def test_a_test_that_was_killed_goes_on_to_the_same_scores(host, plugged, tested):
    arguments = [*host.of_test(plugged), *FLAG, "diff3r.inner_steps=25", "diff3r.save_pictures=true"]
    lines = host.folder / "killed" / "test" / "scores.jsonl"
    running = host.environment.start(*host.command("killed", *arguments), cwd=host.checkout)
    while running.poll() is None and not (lines.exists() and lines.read_text().count("\n") >= 2):
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL, "it was faster than this test"
    left = ScoreLines(lines)
    assert 1 <= len(left.entries) < 4 and not left.finished
    done = host.run("killed", *arguments)
    assert f"{len(left.entries)} scenes are in {lines} and are left out" in done.stderr
    resumed, whole = host.scores("killed"), host.scores("tested")
    for first, second in zip(resumed["scenes"], whole["scenes"], strict=True):
        assert first["scene"] == second["scene"] and first["outcome"] == second["outcome"]
        for side in ("before", "after"):
            assert first[side] == pytest.approx(second[side], rel=1e-6)
    assert ScoreLines(lines).finished


def test_a_plain_checkpoint_is_tested_with_fixed_weights(host, plain):
    host.test("fixed", plain, *FLAG, "diff3r.head=fixed", "diff3r.weights.means=5", "diff3r.inner_steps=1")
    scores = json.loads((host.folder / "fixed" / "test" / "diff3r_scores.json").read_text())
    assert scores["head"] == "fixed" and scores["settings"]["weights"] == {"means": 5}


def test_a_plugin_checkpoint_resumes_in_the_plain_host(host, plugged):
    host.train("resumed_plain", 3, f"checkpointing.load={plugged}", start=("-m", "src.main"), env=serving_drop_in(host))
    checkpoint = torch.load(host.checkpoint("resumed_plain"), weights_only=False)
    assert checkpoint["global_step"] == 3 and "diff3r" not in checkpoint


def test_two_processes_started_by_lightning(host, plain):
    """Resumes a plain checkpoint with the flag; rank 1 learns of the plugin by environment and of settings by argv."""
    done = host.train("two", 3, f"checkpointing.load={plain}", "trainer.devices=2", "diff3r.inner_steps=1", *FLAG)
    assert "MEMBER: 2/2" in done.stderr
    assert "no uncertainty head" in done.stderr
    checkpoint = torch.load(host.checkpoint("two"), weights_only=False)
    assert checkpoint["global_step"] == 3
    steps = {int(state["step"]) for state in checkpoint["diff3r"]["optimizer"]["state"].values()}
    assert steps == {1}, "the head of a resumed plain run starts with the first step it sees"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plugin", "difr"), "unknown plugin 'difr'"),
        ((*FLAG, "diff3r.iner_steps=3"), "Did you mean 'diff3r.inner_steps'"),
    ],
)
def test_bad_input_is_one_clear_error_before_training(host, arguments, message):
    done = host.train("bad", 1, *arguments, check=False, env=serving_drop_in(host))
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("diff3r: ")]
    assert message in line and "Traceback" not in done.stderr
    assert not (host.folder / "bad" / "checkpoints").exists()


def serving_drop_in(host) -> dict[str, str]:
    """For runs without the plugin: the rasterizer by the path alone."""
    return {"PYTHONPATH": str(host.environment.site / "diff3r_plugin" / "drop_in" / "site")}
