"""Captured data roots: windows, other numbers of views, augmented splits, corrupted copies."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.captured.augmentation import Augmentation
from benchmarks.captured.corrupted import half_corrupted, windows_of_each_kind
from benchmarks.captured.roots import (
    CapturedOptions,
    augmented,
    gaps,
    rescaled,
    scene_of,
    training_split,
    wider_windows,
    windows,
    write_split,
)
from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.data.options import OUTLIER_KINDS
from diff3r_plugin.data.re10k_format import decode_jpeg, read_split


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two scenes of 12 frames in ``train``, windows of five frames of them in ``test`` with an index."""
    made = tmp_path_factory.mktemp("made")
    make_data(made, DataOptions(train=2, val=0, test=0, frames=12, size=24, supersample=1), workers=1, progress=False)
    scenes = dict(zip(("one", "two_b"), read_split(made / "train").values(), strict=True))
    root = tmp_path_factory.mktemp("root")
    whole = [{**scene, "key": name} for name, scene in scenes.items()]
    write_split(root / "train", whole)
    cut, index = [], {}
    for scene in whole:
        for number, start in enumerate((0, 4, 7)):
            key, frames = f"{scene['key']}_{number:02d}", slice(start, start + 5)
            cut.append({**scene, "key": key, **{n: scene[n][frames] for n in ("cameras", "images", "timestamps")}})
            index[key] = {"context": [0, 4], "target": [1, 2, 3]}
    write_split(root / "test", cut)
    (root / "evaluation_index.json").write_text(json.dumps(index))
    return root


def centers(record):
    poses = torch.eye(4).repeat(len(record["cameras"]), 1, 1)
    poses[:, :3] = record["cameras"][:, 6:].reshape(-1, 3, 4)
    return torch.linalg.inv(poses)[:, :3, 3]


def test_windows_are_those_of_the_root_in_other_units(root, tmp_path):
    place = windows(root, tmp_path, near=2.0, only=["two_b"])
    found, before = read_split(place.root / "test"), read_split(root / "test")
    assert list(found) == ["two_b_00", "two_b_01", "two_b_02"] and place.count() == 3
    for key, record in found.items():
        torch.testing.assert_close(centers(record), centers(before[key]) / 2, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(a, b) for a, b in zip(record["images"], before[key]["images"], strict=True))
    assert windows(root, tmp_path / "fewer", near=1.0, most=1).count() == 2
    with pytest.raises(ValueError, match="no window of 2 context views"):
        windows(root, tmp_path / "none", near=1.0, only=["three"])


def test_more_views_take_windows_of_their_own(root, tmp_path):
    for views, count in ((4, 2), (8, 2)):
        place = windows(root, tmp_path / str(views), near=1.0, views=views)
        index = json.loads(place.index.read_text())
        for key, record in read_split(place.root / "test").items():
            context, target = index[key]["context"], index[key]["target"]
            assert len(context) == views and len(target) == 3 and not set(context) & set(target)
            assert min(target) > context[0] and max(target) < context[-1] == len(record["images"]) - 1
        assert len(index) == count
    records, _ = wider_windows(read_split(root / "train"), 10)
    assert not records, "scenes that are too short have no window"


def test_widths_come_from_the_evaluation_windows(root, tmp_path):
    assert gaps(root, ["one", "unknown"]) == {"one": (4, 4), "unknown": (4, 4)}
    assert gaps(tmp_path, ["one"]) == {"one": (4, 4)}


def test_an_unchanged_variant_is_the_scene_itself(root):
    """Without a crop, a change of scale or of color, cameras and pictures are those of the data (maybe backwards)."""
    same = Augmentation(zoom=1, whole=1, scale=1, color=0, tint=0)
    options = CapturedOptions({"r": root}, variants=1, size=24, near=1, augmentation=same)
    scene = read_split(root / "train")["one"]
    record = augmented(scene, (4, 4), options, np.random.default_rng(0), "key")
    where = (centers(record)[:, None] - centers(scene)[None]).norm(dim=-1).argmin(1).tolist()
    assert len(set(where)) == len(where) and 5 <= len(where) <= 7
    assert [abs(a - b) for a, b in pairwise(where)] == [1] * (len(where) - 1)
    torch.testing.assert_close(record["cameras"], scene["cameras"][where], atol=1e-5, rtol=1e-5)
    shown = torch.stack([decode_jpeg(file) for file in record["images"]])
    given = torch.stack([decode_jpeg(file) for file in scene["images"]])
    errors = (shown[:, None] - given[None]).abs().mean((2, 3, 4))
    assert errors.argmin(1).tolist() == where and float(errors.amin(1).max()) < 0.06, "resampled, at the same place"


def test_the_world_of_a_variant_is_scaled_as_a_whole(root):
    options = CapturedOptions({"r": root}, variants=1, size=16, near=2.0)
    scene = read_split(root / "train")["one"]
    record = augmented(scene, (4, 4), options, np.random.default_rng(3), "key")
    lengths = (centers(record)[1:] - centers(record)[:-1]).norm(dim=-1)
    all_lengths = (centers(scene)[1:] - centers(scene)[:-1]).norm(dim=-1)
    ratios = [
        float((lengths / part).std() / (lengths / part).mean())
        for n in range(len(all_lengths) - len(lengths) + 1)
        for part in (all_lengths[n : n + len(lengths)], all_lengths[n : n + len(lengths)].flip(0))
    ]
    assert min(ratios) < 1e-3, "one factor for all steps of the camera"


def test_a_training_split_leaves_out_what_chooses_and_can_be_corrupted(root, tmp_path):
    options = CapturedOptions({"r": root}, without=("two_b",), variants=3, size=16)
    training_split(tmp_path / "clean", options)
    found = read_split(tmp_path / "clean")
    assert sorted(found) == ["r_one_000", "r_one_001", "r_one_002"]
    training_split(tmp_path / "again", options)
    again = read_split(tmp_path / "again")
    assert all(torch.equal(found[k]["cameras"], again[k]["cameras"]) for k in found), "drawn by the seed alone"
    training_split(tmp_path / "corrupted", options, corrupted=True)
    for record in read_split(tmp_path / "corrupted").values():
        assert len(record["clean"]["frames"]) == len(record["images"]) // 2
    with pytest.raises(ValueError, match="No root has the scenes"):
        training_split(tmp_path / "x", CapturedOptions({"r": root}, without=("three",), variants=1))
    with pytest.raises(ValueError, match="No training scene is left"):
        training_split(tmp_path / "x", CapturedOptions({"r": root}, without=("one", "two_b"), variants=1))


def test_each_window_is_corrupted_once_in_each_kind(root):
    records = read_split(root / "test")
    index = json.loads((root / "evaluation_index.json").read_text())
    corrupted, entries, notes = windows_of_each_kind(records, index, 0)
    assert set(corrupted) == {f"{kind}_{key}" for kind in OUTLIER_KINDS for key in records}
    for name, record in corrupted.items():
        kind, _, window = name.partition("_")
        (frame,) = record["clean"]["frames"].tolist()
        assert frame in entries[name]["context"] and notes[name][str(frame)]["kind"] == kind
        before = records[window]
        assert torch.equal(record["clean"]["images"][0], before["images"][frame])
        changed = [f for f in range(5) if not torch.equal(record["images"][f], before["images"][f])]
        turned = [f for f in range(5) if not torch.allclose(record["cameras"][f], before["cameras"][f], atol=1e-6)]
        assert changed == [frame] and turned == ([frame] if kind == "pose" else [])
    assert "clean" not in records["one_00"]
    half = half_corrupted(records["one_00"], np.random.default_rng(0))
    assert len(half["clean"]["frames"]) == 2


def test_units_and_names():
    record = {"cameras": torch.arange(18.0)[None].clone()}
    moved = rescaled(record, 2.0)["cameras"][0]
    assert moved[[9, 13, 17]].tolist() == [4.5, 6.5, 8.5] and moved[[6, 10, 14]].tolist() == [6, 10, 14]
    assert scene_of("fern_02") == "fern" and scene_of("fern") == "fern"
    with pytest.raises(ValueError, match="near"):
        CapturedOptions({}, near=0)
