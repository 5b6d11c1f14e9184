"""Checkpoints on the disk, whole and damaged."""

from __future__ import annotations

import io_files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.io import FileError
from diff3r_plugin.refine import RefineError
from diff3r_plugin.refine.checkpoint import RECORDED, Checkpoint, Checkpoints

ENTRY = {**dict.fromkeys(sorted(RECORDED), 0), "round": 1, "views": ["a"], "outcome": "refined"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("out"), {"seed": 0})
    checkpoints.save(Checkpoint(io_files.scene(), [ENTRY]))
    return checkpoints


def test_what_is_saved_is_loaded(saved):
    again = saved.load()
    assert again.rounds == [ENTRY] and torch.equal(again.scene.means, io_files.scene().means)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_one_is_an_error_or_the_same_kind_of_thing(saved, data):
    path = data.draw(st.sampled_from([saved.record, saved.folder / "round_00001.npz"]))
    content = path.read_bytes()
    changed = bytearray(content)
    if data.draw(st.booleans()):
        changed = changed[: data.draw(st.integers(0, len(changed)))]
    else:
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(changed)
        found = saved.load()
        assert all(entry.keys() >= RECORDED for entry in found.rounds)
        assert torch.equal(found.scene.means, io_files.scene().means), "the archive's checksums tell"
    except (RefineError, FileError) as error:
        assert str(saved.folder.parent) in str(error)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("content", ["[]", "{}", '{"identity": [], "scene": "x", "rounds": []}', "[" * 100_000])
def test_other_contents_are_damage(saved, content):
    whole = saved.record.read_text()
    saved.record.write_text(content)
    with pytest.raises(RefineError, match="is damaged; remove"):
        saved.load()
    saved.record.write_text(whole)
