"""The data set as a whole: same bytes for the same options, the layout hosts read, outliers as asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff3r_plugin.data import OUTLIER_KINDS, DataOptions, make_data, sample_scene
from diff3r_plugin.data.ray_caster import render_room
from diff3r_plugin.data.re10k_format import decode_jpeg, read_split

SMALL = DataOptions(train=2, val=1, test=2, frames=8, size=16, seed=3, supersample=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    make_data(folder, SMALL, workers=1, progress=False)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(small, tmp_path):
    make_data(tmp_path, SMALL, workers=2, progress=False)
    assert contents(tmp_path) == contents(small)


def test_another_seed_gives_other_pictures(small, tmp_path):
    make_data(tmp_path, replace(SMALL, seed=4), workers=1, progress=False)
    first, second = read_split(small / "train"), read_split(tmp_path / "train")
    assert first.keys() == second.keys()
    for key in first:
        assert not torch.equal(first[key]["cameras"], second[key]["cameras"])


def test_more_scenes_leave_the_first_ones_as_they_are(small, tmp_path):
    make_data(tmp_path, replace(SMALL, train=3), workers=1, progress=False)
    first, more = read_split(small / "train"), read_split(tmp_path / "train")
    assert len(more) == 3
    for key, scene in first.items():
        for a, b in zip(scene["images"], more[key]["images"], strict=True):
            assert torch.equal(a, b)


def test_layout_of_a_chunk(small):
    scenes = torch.load(small / "train" / "000000.torch", weights_only=True)
    assert [s["key"] for s in scenes] == list(json.loads((small / "train" / "index.json").read_text()))
    for scene in scenes:
        assert set(scene) == {"key", "url", "timestamps", "cameras", "images"}
        assert scene["timestamps"].dtype == torch.int64 and scene["timestamps"].shape == (8,)
        assert scene["cameras"].dtype == torch.float32 and scene["cameras"].shape == (8, 18)
        assert torch.equal(scene["cameras"][:, 4:6], torch.zeros(8, 2))
        assert len(scene["images"]) == 8
        for file in scene["images"]:
            assert file.dtype == torch.uint8 and file.ndim == 1
            assert bytes(file[:2].tolist()) == b"\xff\xd8"  # a JPEG file
            assert decode_jpeg(file).shape == (3, 16, 16)


def test_depths_are_those_of_the_room_and_change_nothing_else(small, tmp_path):
    make_data(tmp_path, replace(SMALL, depths=True), workers=1, progress=False)
    without, with_depths = read_split(small / "test"), read_split(tmp_path / "test")
    for number, (key, scene) in enumerate(with_depths.items()):
        assert scene["depths"].dtype == torch.float16 and scene["depths"].shape == (8, 16, 16)
        assert all(torch.equal(a, b) for a, b in zip(scene["images"], without[key]["images"], strict=True))
        room = sample_scene(SMALL.seed, "test", number, SMALL.frames)
        _, truth = render_room(room.room, room.camera_to_room[5], room.intrinsics, (16, 16), SMALL.supersample)
        torch.testing.assert_close(scene["depths"][5].double(), torch.from_numpy(truth), rtol=1e-3, atol=0)


def test_poses_are_rotations_and_the_first_camera_is_the_world(small):
    for split in ("train", "val", "test"):
        for scene in read_split(small / split).values():
            pose = scene["cameras"][:, 6:].reshape(-1, 3, 4).double()
            rotation = pose[..., :3]
            identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
            torch.testing.assert_close(rotation @ rotation.mT, identity, atol=1e-5, rtol=0)
            torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(8, dtype=torch.float64))
            torch.testing.assert_close(pose[0], torch.eye(4, dtype=torch.float64)[:3], atol=1e-6, rtol=0)


def test_evaluation_index_has_targets_strictly_between_two_context_views(small):
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        index = json.loads((small / f"evaluation_index_{split}.json").read_text())
        assert index.keys() == read_split(small / split).keys() and len(index) == count
        for views in index.values():
            first, last = views["context"]
            assert 0 <= first < last < SMALL.frames
            assert len(set(views["target"])) == SMALL.target_views
            assert all(first < t < last for t in views["target"])


def test_outliers_are_as_many_as_asked_for_and_recorded(tmp_path):
    options = DataOptions(train=1, val=0, test=5, frames=6, size=16, supersample=1, outlier_share=0.4)
    make_data(tmp_path / "corrupted", options, workers=1, progress=False)
    make_data(tmp_path / "clean", replace(options, outlier_share=0.0), workers=1, progress=False)
    assert not (tmp_path / "clean" / "outliers_test.json").exists()
    assert not (tmp_path / "corrupted" / "outliers_train.json").exists()  # not in outlier_splits

    notes = json.loads((tmp_path / "corrupted" / "outliers_test.json").read_text())
    index = json.loads((tmp_path / "corrupted" / "evaluation_index_test.json").read_text())
    kinds = [note["kind"] for frames in notes.values() for note in frames.values()]
    assert len(kinds) == 4  # 0.4 of 5 scenes x 2 context views
    assert sorted(kinds) == ["blur", "exposure", "occluder", "pose"]

    corrupted, clean = read_split(tmp_path / "corrupted" / "test"), read_split(tmp_path / "clean" / "test")
    for key, scene in corrupted.items():
        for frame in range(options.frames):
            note = notes.get(key, {}).get(str(frame))
            same_image = torch.equal(scene["images"][frame], clean[key]["images"][frame])
            same_camera = torch.equal(scene["cameras"][frame], clean[key]["cameras"][frame])
            if note is None:
                assert same_image and same_camera
                continue
            assert frame in index[key]["context"]
            assert same_image == (note["kind"] == "pose")
            assert same_camera == (note["kind"] != "pose")
            if note["kind"] == "pose":
                true = torch.tensor(note["true_world_to_camera"])[:3].reshape(-1)
                torch.testing.assert_close(true, clean[key]["cameras"][frame, 6:], atol=1e-6, rtol=0)


def test_half_of_the_context_images_is_one_of_every_pair(tmp_path):
    options = DataOptions(train=0, val=0, test=8, frames=6, size=16, supersample=1, outlier_share=0.5)
    make_data(tmp_path, options, workers=1, progress=False)
    notes = json.loads((tmp_path / "outliers_test.json").read_text())
    assert [len(frames) for frames in notes.values()] == [1] * 8
    assert sorted(note["kind"] for frames in notes.values() for note in frames.values()) == sorted(OUTLIER_KINDS * 2)


def test_what_corrupted_frames_were_is_written_beside_them(tmp_path):
    options = DataOptions(train=0, val=0, test=4, frames=6, size=16, supersample=1, outlier_share=0.5)
    make_data(tmp_path / "corrupted", options, workers=1, progress=False)
    make_data(tmp_path / "clean", replace(options, outlier_share=0.0), workers=1, progress=False)
    notes = json.loads((tmp_path / "corrupted" / "outliers_test.json").read_text())
    corrupted, clean = read_split(tmp_path / "corrupted" / "test"), read_split(tmp_path / "clean" / "test")
    for key, scene in corrupted.items():
        record = scene["clean"]
        assert record["frames"].tolist() == [int(frame) for frame in notes[key]]
        for place, frame in enumerate(record["frames"].tolist()):
            assert torch.equal(record["images"][place], clean[key]["images"][frame])
            torch.testing.assert_close(record["cameras"][place], clean[key]["cameras"][frame])
            changed = (decode_jpeg(scene["images"][frame]) - decode_jpeg(record["images"][place])).abs().amax(0) > 0.25
            assert not (changed & ~record["masks"][place]).any()
            touched_part = record["masks"][place].float().mean()
            assert (touched_part < 0.5) if notes[key][str(frame)]["kind"] == "occluder" else (touched_part == 1)
    assert all("clean" not in scene for scene in clean.values())


def test_training_outliers_may_fall_on_every_frame(tmp_path):
    options = DataOptions(
        train=2, val=0, test=0, frames=6, size=16, supersample=1,
        outlier_share=1.0, outlier_kinds=("exposure",), outlier_splits=("train",),
    )  # fmt: skip
    make_data(tmp_path, options, workers=1, progress=False)
    notes = json.loads((tmp_path / "outliers_train.json").read_text())
    assert {key: sorted(map(int, frames)) for key, frames in notes.items()} == {
        "room_train_00000": list(range(6)),
        "room_train_00001": list(range(6)),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 3}, "frames must be at least 4, got 3"),
        ({"target_views": 9, "frames": 8}, "target_views=9 does not fit"),
        ({"outlier_share": 1.5}, "outlier_share must be in \\[0, 1\\], got 1.5"),
        ({"outlier_kinds": ("fog",)}, "outlier_kinds must be among exposure.*got fog"),
        ({"outlier_splits": ("dev",)}, "outlier_splits must be among train.*got dev"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DataOptions(**change)


def test_missing_split_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json does not exist"):
        read_split(tmp_path / "train")


def test_written_poses_are_those_of_the_sampled_scene(small):
    scene = sample_scene(SMALL.seed, "test", 1, SMALL.frames)
    written = read_split(small / "test")["room_test_00001"]["cameras"]
    np.testing.assert_allclose(written[:, 6:].reshape(-1, 3, 4), scene.world_to_camera[:, :3], atol=1e-6)
    np.testing.assert_allclose(written[:, :4], np.tile(scene.intrinsics, (SMALL.frames, 1)), atol=1e-6)
