"""A host's test that was interrupted, and what it is compared with before it resumes."""

import json
from types import SimpleNamespace

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.metrics import ssim
from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.plugin.scoring.image_metrics import ImageMetrics


class Killed(BaseException):
    """Ends a test as a signal would."""


def run_test(folder, batches=3, killed_at=None, adapter_class=stub_host.StubAdapter, seed=1, **settings):
    """Test a stub host; returns what was said and how often its encoder ran."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    torch.manual_seed(seed)
    with stub_host.plugged_in(wrapper_class, folder, adapter_class, **settings) as said:
        model = wrapper_class()
        if killed_at is not None:
            end = attachment_of(model).reporter.test.end_of_step

            def end_of_step():
                end()
                if model.encoder.calls == killed_at:
                    raise Killed

            attachment_of(model).reporter.test.end_of_step = end_of_step
        trainer = stub_host.make_trainer(lightning.pytorch, folder)
        try:
            trainer.test(model, stub_host.loader(batches), verbose=False)
        except (Killed, SystemExit):
            assert killed_at is not None
    return said, model.encoder.calls


def scores(folder) -> dict:
    found = json.loads((folder / "diff3r_scores.json").read_text())
    for scene in found["scenes"]:
        scene.pop("seconds")
        for row in scene.get("sweep", ()):
            row.pop("seconds")
    return found


@pytest.mark.parametrize("killed_at", [1, 2])
def test_it_goes_on_to_the_same_scores(tmp_path, killed_at):
    _, calls = run_test(tmp_path / "whole")
    run_test(tmp_path / "cut", killed_at=killed_at)
    assert not (tmp_path / "cut" / "diff3r_scores.json").exists()
    said, resumed = run_test(tmp_path / "cut")
    assert resumed == calls - killed_at, "scenes with scores are left out"
    assert any(f"resuming the test that was interrupted: {2 * killed_at} scenes" in line for line in said)
    whole, cut = scores(tmp_path / "whole"), scores(tmp_path / "cut")
    assert whole["scenes"] == cut["scenes"] and len(cut["scenes"]) == 6
    assert whole["mean"] == cut["mean"]


def test_one_that_was_finished_is_made_again(tmp_path):
    _, first = run_test(tmp_path)
    said, again = run_test(tmp_path)
    assert again == first and not any("interrupted" in line for line in said)
    assert len(scores(tmp_path)["scenes"]) == 6


def test_other_settings_start_anew_and_say_so(tmp_path):
    run_test(tmp_path, killed_at=1)
    said, calls = run_test(tmp_path, inner_steps=1)
    assert any("holds 2 scenes of an interrupted test that differs (diff3r.inner_steps)" in line for line in said)
    assert calls == 3 and (tmp_path / "scores.previous.jsonl").exists()


def test_another_checkpoint_starts_anew(tmp_path):
    class Loaded(stub_host.StubAdapter):
        def checkpoint(self, wrapper, config):
            return str(tmp_path / "model.ckpt")

    (tmp_path / "model.ckpt").write_bytes(b"first")
    run_test(tmp_path, killed_at=1, adapter_class=Loaded)
    (tmp_path / "model.ckpt").write_bytes(b"trained on")
    said, _ = run_test(tmp_path, adapter_class=Loaded)
    assert any("differs (checkpoint)" in line for line in said)
    header = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert header["checkpoint"]["path"] == str(tmp_path / "model.ckpt") and header["checkpoint"]["bytes"] == 10


def test_the_file_holds_every_setting_whether_it_was_given_or_not(tmp_path):
    run_test(tmp_path, batches=1)
    settings = json.loads((tmp_path / "diff3r_scores.json").read_text())["settings"]
    assert (
        settings["tto"]["inner_steps"] == 2
        and settings["tto"]["pcg_tolerance"] == 0.01
        and settings["head_width"] == 32
    )
    header = json.loads((tmp_path / "scores.jsonl").read_text().splitlines()[0])
    assert header["settings"] == settings


def test_other_numbers_of_steps_in_the_same_run(tmp_path, capsys):
    run_test(tmp_path, batches=1, eval_steps=[0, 2, 6])
    table = capsys.readouterr().out
    found = scores(tmp_path)
    for scene in found["scenes"]:
        by_steps = {row["steps"]: row for row in scene["sweep"]}
        assert list(by_steps) == [0, 2, 6]
        for steps, side in ((0, "before"), (2, "after")):  # the test itself makes two
            for metric in ("psnr", "psnr_context"):
                assert by_steps[steps][metric] == pytest.approx(scene[side][metric], rel=1e-6)
        assert by_steps[6]["energy"] <= by_steps[2]["energy"] <= by_steps[0]["energy"]
    assert [row["steps"] for row in found["sweep"]] == [0, 2, 6]
    assert "steps" in table and found["sweep"][2]["psnr_context"]["mean"] > found["sweep"][0]["psnr_context"]["mean"]


@pytest.mark.parametrize("given", [["four"], [1.5], [-1], [True]])
def test_numbers_of_steps_are_checked(given):
    with pytest.raises(PluginError, match=r"eval_steps must be a list of whole numbers, like \[0,4,16\]"):
        stub_host.run_context(stub_host.StubAdapter(), eval_steps=given)


def test_an_output_that_cannot_be_written_ends_it_before_the_first_scene(tmp_path):
    (tmp_path / "file").write_text("")
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path / "file" / "folder") as said:
        model = wrapper_class()
        with pytest.raises(PluginError, match="nothing was tested"):
            stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(2), verbose=False)
    assert model.encoder.calls == 0
    assert sum("nothing was tested" in line for line in said) == 1


class TestMetrics:
    TRUTH, RENDERED = torch.rand(2, 2, 3, 16, 16), torch.rand(2, 2, 3, 16, 16)

    def adapter(self, **metrics):
        return SimpleNamespace(metric=metrics.get)

    def test_ssim_is_the_hosts_where_it_has_one(self):
        metrics = ImageMetrics(self.adapter(ssim=lambda x, y: torch.arange(4.0)), "off", pytest.fail)
        assert metrics(self.TRUTH, self.RENDERED)["ssim"].tolist() == [0.5, 2.5]
        assert metrics.sources == {"ssim": "host", "lpips": "off"}

    def test_otherwise_it_is_ours(self):
        metrics = ImageMetrics(self.adapter(), "off", pytest.fail)
        found = metrics(self.TRUTH, self.RENDERED)["ssim"]
        assert torch.equal(found, ssim(self.TRUTH, self.RENDERED).mean(-1)) and metrics.sources["ssim"] == "diff3r"

    def test_a_hosts_ssim_that_fails_is_replaced_once_and_for_all(self):
        def refuses(truth, rendered):
            raise ValueError("win_size exceeds image extent.\nDetails")

        said = []
        metrics = ImageMetrics(self.adapter(ssim=refuses), "off", said.append)
        for _ in range(2):
            assert metrics(self.TRUTH, self.RENDERED)["ssim"].isfinite().all()
        assert said == [
            "the host's own SSIM cannot judge these images (ValueError: win_size exceeds image extent.); ours is used."
        ]
        assert metrics.sources["ssim"] == "diff3r"

    def test_lpips_is_the_hosts(self):
        metrics = ImageMetrics(self.adapter(lpips=lambda x, y: (x - y).square().mean((1, 2, 3))), "auto", pytest.fail)
        expected = (self.TRUTH - self.RENDERED).square().mean((2, 3, 4)).mean(1)
        torch.testing.assert_close(metrics(self.TRUTH, self.RENDERED)["lpips"], expected)

    def test_lpips_that_fails_is_left_out_and_said_once(self):
        def offline(truth, rendered):
            raise OSError("cannot be downloaded")

        said = []
        metrics = ImageMetrics(self.adapter(lpips=offline), "auto", said.append)
        for _ in range(2):
            assert "lpips" not in metrics(self.TRUTH, self.RENDERED)
        assert len(said) == 1 and "LPIPS is left out: OSError: cannot be downloaded" in said[0]

    def test_nothing_is_downloaded_for_lpips(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        said = []
        metrics = ImageMetrics(self.adapter(), "auto", said.append)
        assert "lpips" not in metrics(self.TRUTH, self.RENDERED)
        assert len(said) == 1 and "diff3r.lpips=off" in said[0] and str(tmp_path) in said[0]


def test_the_customary_optimization_beside_ours(tmp_path, capsys):
    run_test(tmp_path, batches=1, inner_steps=4, eval_steps=[1], compare="adam", compare_steps=[0, 1, 60])
    table = capsys.readouterr().out
    found = json.loads((tmp_path / "diff3r_scores.json").read_text())
    for scene in found["scenes"]:
        by_steps = {row["steps"]: row for row in scene["compare"]}
        assert list(by_steps) == [0, 1, 60] and {row["method"] for row in scene["compare"]} == {"adam"}
        for metric in ("psnr", "psnr_context"):  # it starts from the very prediction
            assert by_steps[0][metric] == pytest.approx(scene["before"][metric], abs=1e-3)
        assert by_steps[60]["psnr_context"] > by_steps[1]["psnr_context"] > by_steps[0]["psnr_context"]
        assert by_steps[60]["seconds"] > by_steps[1]["seconds"] >= by_steps[0]["seconds"] >= 0
    assert [row["steps"] for row in found["compare"]] == [0, 1, 60]
    lines = [line.split() for line in table.splitlines() if line.startswith(("ours ", "Adam, 3DGS rates "))]
    assert [line[1] for line in lines[:2]] == ["1", "4"] and [line[3] for line in lines[2:]] == ["0", "1", "60"]
    assert "psnr_adam_60_steps" in (tmp_path / "diff3r_scores.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"compare": "sgd"}, r"value of diff3r.compare: 'sgd'.*adam"),
        ({"compare_steps": []}, r"compare_steps is empty"),
        ({"compare_steps": ["many"]}, r"compare_steps must be a list of whole numbers"),
    ],
)
def test_what_is_compared_with_is_checked(given, message):
    with pytest.raises(PluginError, match=message):
        stub_host.run_context(stub_host.StubAdapter(), **given)
