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

ENTRY = {
    **dict.fromkeys(sorted(RECORDED), 0),
    "round": 1,
    "views": ["a"],
    "outcome": "refined",
    "validation_psnr": 20.0,
    "settling": False,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("out"), {"seed": 0})
    checkpoints.save(Checkpoint(io_files.scene(), [ENTRY], io_files.scene()))
    return checkpoints


def test_what_is_saved_is_loaded(saved):
    again = saved.load()
    assert again.rounds == [ENTRY] and torch.equal(again.scene.means, io_files.scene().means)
    assert again.best_round == 1 and torch.equal(again.best.means, io_files.scene().means)


def test_the_best_scene_stays_until_there_is_a_better_one(tmp_path):
    checkpoints, scenes = Checkpoints(tmp_path, {}), [io_files.scene() for _ in range(4)]
    rounds, best, names = [], None, []
    for number, (scene, score) in enumerate(zip(scenes, (20.0, None, 20.0, 21.0), strict=True), 1):
        rounds = [*rounds, {**ENTRY, "round": number, "validation_psnr": score}]
        best = scene if score == 21.0 or best is None else best
        checkpoints.save(Checkpoint(scene, rounds, best))
        names.append(sorted(file.name for file in checkpoints.folder.iterdir() if file.suffix == ".npz"))
    assert names == [
        ["best_00001.npz", "round_00001.npz"],
        ["best_00001.npz", "round_00002.npz"],
        ["best_00001.npz", "round_00003.npz"],
        ["best_00004.npz", "round_00004.npz"],
    ]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_one_is_an_error_or_the_same_kind_of_thing(saved, data):
    path = data.draw(st.sampled_from([saved.record, saved.folder / "round_00001.npz", saved.folder / "best_00001.npz"]))
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
