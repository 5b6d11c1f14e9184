"""Scores that are on the disk scene by scene: what is read of them after whatever happened."""

import json
import math
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.scoring.score_lines import ScoreLines

HEADER = {"format": 1, "settings": {"groups": ("means",)}}


def entry(scene: str, occurrence: int = 0, psnr: float = 20.0) -> dict:
    return {"scene": scene, "occurrence": occurrence, "before": {"psnr": psnr}, "after": {"psnr": psnr + 1}}


def begun(path, *scenes: str) -> ScoreLines:
    lines = ScoreLines(path)
    lines.start(HEADER)
    for scene in scenes:
        lines.add(entry(scene))
    return lines


def test_every_scene_is_on_the_disk_when_add_returns(tmp_path):
    lines = begun(tmp_path / "deep" / "scores.jsonl")
    for count, scene in enumerate("abc", 1):
        lines.add(entry(scene))
        read = ScoreLines(lines.path)
        assert [e["scene"] for e in read.entries] == list("abc")[:count] and not read.finished
    lines.finish()
    assert ScoreLines(lines.path).finished and ScoreLines(lines.path).header == json.loads(json.dumps(HEADER))


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_half_a_line_at_the_end_is_as_if_it_were_not_there(tmp_path, cut):
    lines = begun(tmp_path / "scores.jsonl", "a", "b")
    lines.close()
    os.truncate(lines.path, lines.path.stat().st_size - cut)
    again = ScoreLines(lines.path)
    assert [e["scene"] for e in again.entries] == ["a"]
    again.go_on()
    again.add(entry("c"))
    again.close()
    assert [json.loads(line).get("scene") for line in lines.path.read_text().splitlines()] == [None, "a", "c"]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_a_crash_leaves_is_read_as_far_as_it_is_whole(data):
    """Cut anywhere, and with bytes behind that nobody wrote."""
    with tempfile.TemporaryDirectory() as folder:
        lines = begun(Path(folder) / "scores.jsonl", "a", "b", "c")
        lines.close()
        content = lines.path.read_bytes()
        ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
        cut = data.draw(st.integers(0, len(content)))
        lines.path.write_bytes(content[:cut] + data.draw(st.binary(max_size=20)).replace(b"\n", b""))
        whole = max(sum(end <= cut for end in ends) - 1, 0)
        again = ScoreLines(lines.path)
        assert [e["scene"] for e in again.entries] == ["a", "b", "c"][:whole] and not again.finished
        again.go_on()
        again.add(entry("d"))
        again.close()
        assert [e["scene"] for e in ScoreLines(lines.path).entries] == [*"abc"[:whole], "d"]


def test_zeros_that_a_power_failure_leaves_end_what_is_read(tmp_path):
    lines = begun(tmp_path / "scores.jsonl", "a")
    lines.close()
    with open(lines.path, "ab") as file:
        file.write(bytes(100) + b"\n")
    assert [e["scene"] for e in ScoreLines(lines.path).entries] == ["a"]


def test_numbers_that_are_not_finite_come_back_as_such(tmp_path):
    lines = begun(tmp_path / "scores.jsonl")
    lines.add(entry("a", psnr=math.nan))
    assert math.isnan(lines.entries[0]["before"]["psnr"])
    assert math.isnan(ScoreLines(lines.path).entries[0]["before"]["psnr"])
    assert "NaN" not in lines.path.read_text()


def test_a_scene_that_is_scored_again_counts_once_and_one_that_occurs_twice_twice(tmp_path):
    lines = begun(tmp_path / "scores.jsonl", "a", "b")
    lines.add(entry("a", psnr=30.0))
    lines.add(entry("b", occurrence=1))
    assert lines.recorded() == {"a": 1, "b": 2}
    assert lines.entries[0]["before"]["psnr"] == 30.0


def test_an_unfinished_test_that_is_not_gone_on_with_is_kept_beside(tmp_path):
    begun(tmp_path / "scores.jsonl", "a").close()
    begun(tmp_path / "scores.jsonl", "b").finish()
    assert [e["scene"] for e in ScoreLines(tmp_path / "scores.previous.jsonl").entries] == ["a"]
    begun(tmp_path / "scores.jsonl", "c").close()
    assert [e["scene"] for e in ScoreLines(tmp_path / "scores.previous.jsonl").entries] == ["a"], "b was finished"


def test_files_of_other_processes_are_taken_in_and_go(tmp_path):
    first = begun(tmp_path / "scores.jsonl", "a", "b")
    others = [tmp_path / f"scores_rank{rank}.jsonl" for rank in (1, 2, 3)]
    begun(others[0], "b", "c").finish()
    stale = ScoreLines(others[1])
    stale.start({"format": 1, "settings": {"groups": ("opacity",)}})
    stale.add(entry("d"))
    stale.close()
    first.merge(others)
    assert (
        [e["scene"] for e in first.entries] == [e["scene"] for e in ScoreLines(first.path).entries] == ["a", "b", "c"]
    )
    assert not others[0].exists() and others[1].exists()


def test_a_folder_that_cannot_be_made_is_one_line_with_the_cure(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        PluginError, match=r"cannot be written to .*file/deep \(Not a directory\).*diff3r\.output="
    ) as e:
        ScoreLines(tmp_path / "file" / "deep" / "scores.jsonl")
    assert "\n" not in str(e.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PluginError, match="Permission denied"):
        ScoreLines(tmp_path / "scores.jsonl")


def full(*arguments):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_found_before_anything_is_tested(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PluginError, match=r"No space left on device\); nothing was tested.*1 MiB to spare"):
        ScoreLines(tmp_path / "scores.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_says_how_many_scenes_are_safe(tmp_path, monkeypatch):
    lines = begun(tmp_path / "scores.jsonl", "a")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PluginError, match=r"Those of 1 scenes are there; free some space.*resumes"):
        lines.add(entry("b"))
