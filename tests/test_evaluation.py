"""Saved scenes: what is no such file says so."""

import pytest
import torch

from diff3r_plugin.evaluation import SavedScene


def test_a_scene_that_cannot_be_read_is_one_line_with_the_cure(tmp_path):
    for name, content in (("empty.pt", b""), ("text.pt", b"hello"), ("cut.pt", b"PK\x03\x04cut")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name}: it cannot be read as a saved scene .*save_scenes=true"
        ) as caught:
            SavedScene.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="there is no such file"):
        SavedScene.load(tmp_path / "missing.pt")
    torch.save({"format": 99}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not one that diff3r\.save_scenes=true writes"):
        SavedScene.load(tmp_path / "other.pt")
