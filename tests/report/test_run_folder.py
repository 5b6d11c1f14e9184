"""Scores of a test, in whichever of the known files they are, and what is said where they are not."""

import json
import math

import pytest

from diff3r_plugin.report.run_folder import EvaluationRun, ReportError


def entry(scene, before=20.0, after=21.0, **more):
    return {"scene": scene, "before": {"psnr": before}, "after": {"psnr": after}, **more}


def test_scores_images_and_settings_of_a_test(run_folder):
    run = EvaluationRun.read(run_folder)
    assert [scene.name for scene in run.scenes] == ["room_a", "room_b"]
    assert [scene.folder for scene in run.scenes] == [run_folder / "diff3r" / name for name in ("room_a", "room_b")]
    assert run.metrics() == ["psnr", "ssim", "psnr_context"]
    assert run.settings["log_every"] == 7 and run.settings["inner_steps"] == 2  # the layer's beside the plugin's
    assert "tto" not in run.settings
    assert all(len(scene.energy) == 3 for scene in run.scenes)
    for scene in run.scenes:
        assert scene.gain("psnr") == scene.after["psnr"] - scene.before["psnr"]
        assert math.isnan(scene.gain("lpips"))


def test_a_folder_above_one_test_will_do_and_above_several_it_asks(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "test").mkdir(parents=True)
        (tmp_path / name / "test" / "diff3r_scores.json").write_text(json.dumps({"scenes": [entry("a")]}))
    assert EvaluationRun.read(tmp_path / "one").source == tmp_path / "one" / "test" / "diff3r_scores.json"
    with pytest.raises(ReportError, match=r"scores of 2 tests; choose one of them:\n.*one/test\n.*two/test"):
        EvaluationRun.read(tmp_path)


def test_missing_numbers_are_nan_and_ranks_are_put_together(tmp_path):
    first = entry("a", None, energy=[4.0, None, 2.0])
    (tmp_path / "diff3r_scores.json").write_text(json.dumps({"scenes": [first]}))
    (tmp_path / "diff3r_scores_rank1.json").write_text(json.dumps({"scenes": [entry("b")]}))
    a, b = EvaluationRun.read(tmp_path).scenes
    assert math.isnan(a.before["psnr"]) and math.isnan(a.gain("psnr")) and a.energy == [4.0, 2.0]
    assert b.name == "b" and b.gain("psnr") == 1.0 and b.folder is None


def test_lines_of_an_interrupted_test_are_read_up_to_the_last_whole_one(tmp_path):
    lines = [{"adapter": "stub"}, entry("a"), entry("b"), entry("a", after=25.0), entry("b", after=23.0, occurrence=1)]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "scores.jsonl").write_text(text + '\n{"scene": "c", "bef')
    run = EvaluationRun.read(tmp_path)
    assert run.header == {"adapter": "stub"}
    assert {scene.name: scene.gain("psnr") for scene in run.scenes} == {"a": 5.0, "b": 1.0, "b (2)": 3.0}
    (tmp_path / "scores.jsonl").write_text('{"scene": \n' + text)
    with pytest.raises(ReportError, match=r"scores\.jsonl, line 1, is not JSON"):
        EvaluationRun.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no scores in .*, expected diff3r_scores.json.*--plugin diff3r"),
        ("", "cannot be read"),
        ("[1]", "expected a JSON object, got list"),
        ("{}", "holds no scene"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_cure(tmp_path, content, message):
    if content is not None:
        (tmp_path / "diff3r_scores.json").write_text(content)
    with pytest.raises(ReportError, match=message):
        EvaluationRun.read(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ReportError, match=r"there is no folder .*nowhere"):
        EvaluationRun.read(tmp_path / "nowhere")
