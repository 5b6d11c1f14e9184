"""Captures as data of hosts: what is written is what the files' cameras see."""

from __future__ import annotations

import json

import io_files
import numpy as np
import plyfile
import pytest
import refine_files
import torch
from PIL import Image

from diff3r_plugin.cli.main import main
from diff3r_plugin.data import CaptureOptions, make_capture_data
from diff3r_plugin.data.overlap import Seen, chain, context_pair, overlaps
from diff3r_plugin.io import read_posed_images, read_re10k_chunk

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")

OPTIONS = CaptureOptions(size=(16, 20))


@pytest.fixture
def captures(tmp_path) -> list[str]:
    return [str(refine_files.write_colmap(tmp_path / name)) for name in ("garden", "kitchen", "street")]


def test_chunks_hold_the_cameras_and_the_middle_of_the_images(tmp_path, captures):
    make_capture_data(tmp_path / "out", captures, OPTIONS)
    posed, written = read_posed_images(captures[0]), read_re10k_chunk(tmp_path / "out" / "train", "garden")
    assert torch.allclose(written.world_to_camera, posed.world_to_camera, atol=1e-5)
    views = posed.views((16, 21))  # 24 x 32 made to cover 16 x 20
    matrix = views.intrinsics[0].double()
    assert torch.allclose(written.intrinsics, matrix, atol=1e-3)
    truth = views.images[0, 1, :, :, :20]
    assert (written.views().images[0, 1] - truth).abs().mean() < 0.02


def test_splits_are_by_scenes(tmp_path, captures):
    make_capture_data(tmp_path / "out", captures, OPTIONS)
    found = {split: list(json.loads((tmp_path / "out" / split / "index.json").read_text())) for split in
             ("train", "val", "test")}  # fmt: skip
    assert found == {"train": ["garden"], "val": ["kitchen"], "test": ["street"]}
    options = CaptureOptions(size=(16, 20), test=("garden",))
    report = make_capture_data(tmp_path / "out", captures, options)
    assert {name: scene["split"] for name, scene in report["scenes"].items()} == {
        "garden": "test",
        "kitchen": "train",
        "street": "train",
    }
    for wrong, message in ((("x",), "no capture 'x'"), (("garden",), "for validation and for testing")):
        with pytest.raises(ValueError, match=message):
            make_capture_data(tmp_path / "o", captures, CaptureOptions(test=wrong, val=("garden",)))


def test_scale_and_depths(tmp_path, captures):
    report = make_capture_data(tmp_path / "out", captures, CaptureOptions(size=(16, 20), median_depth=5.0))
    for scene in report["scenes"].values():
        assert scene["depths"][1] == pytest.approx(5)
        assert scene["near"] < scene["depths"][0] < scene["depths"][2] < scene["far"]
    assert report["near"] == min(scene["near"] for scene in report["scenes"].values())
    plain = make_capture_data(tmp_path / "plain", captures, OPTIONS)
    factor = 5 / plain["scenes"]["garden"]["depths"][1]
    poses = [read_re10k_chunk(tmp_path / name / "train", "garden").world_to_camera for name in ("plain", "out")]
    assert torch.allclose(poses[1][:, :3, 3], factor * poses[0][:, :3, 3], atol=1e-4)


def test_evaluation_indices_have_targets_between_and_one_file_for_each_overlap(tmp_path, captures):
    options = CaptureOptions(size=(16, 20), overlaps=(0.9, 0.3), target_views=2)
    make_capture_data(tmp_path / "out", captures, options)
    plain = json.loads((tmp_path / "out" / "evaluation_index_test.json").read_text())
    assert plain == json.loads((tmp_path / "out" / "evaluation_index_test_overlap_0.9.json").read_text())
    other = json.loads((tmp_path / "out" / "evaluation_index_test_overlap_0.3.json").read_text())
    for index in (plain, other):
        first, last = index["street"]["context"]
        assert len(index["street"]["target"]) == 2 and all(first < t < last for t in index["street"]["target"])


def test_the_pair_of_the_wanted_overlap_is_chosen(tmp_path):
    along = torch.arange(12.0)[:, None] * 10
    inside = (torch.arange(200.0) >= along) & (torch.arange(200.0) < along + 100)
    ahead = torch.tensor([0.0, 0.0, 1.0]).expand(12, 200, 3)
    shared = overlaps(Seen(inside, torch.ones(12, 200), ahead))
    assert float(shared[0, 4]) == pytest.approx(0.6)
    for wanted, gap in ((0.6, 4), (0.3, 7)):
        first, last = context_pair(shared, wanted, 3)
        assert last - first == gap and abs(first + last - 11) <= 1
    assert context_pair(shared[:4, :4], 0.6, 3) is None


def test_the_other_side_of_an_object_is_no_overlap():
    """Both cameras have every point in their image."""
    angle = torch.tensor([0.0, 0.5, torch.pi])
    directions = torch.stack([angle.sin(), torch.zeros(3), angle.cos()], -1)[:, None].expand(3, 10, 3)
    shared = overlaps(Seen(torch.ones(3, 10, dtype=torch.bool), torch.ones(3, 10), directions))
    assert shared[0].tolist() == [1, 1, 0]


def test_frames_whose_names_say_nothing_are_put_in_a_row():
    true = torch.tensor([3, 0, 5, 1, 4, 2, 6])
    place = true.float()[:, None]
    distance = torch.cdist(place, place)
    shared = (1 - distance / 2).clamp_min(0)
    order = true[chain(shared, distance)].tolist()
    assert order in (list(range(7)), list(range(6, -1, -1)))
    straight = torch.arange(7.0)[:, None]
    distance = torch.cdist(straight, straight)
    assert chain((1 - distance / 2).clamp_min(0), distance) == list(range(7))


def test_what_was_left_out_is_reported(tmp_path, captures):
    street, kitchen = (tmp_path / name / "images" for name in ("street", "kitchen"))
    (street / "3.png").unlink()
    for number in range(4):
        (kitchen / f"{number}.png").write_bytes(b"broken")
    report = make_capture_data(tmp_path / "out", captures, OPTIONS)
    assert report["scenes"]["street"]["frames"] == 5
    assert any("1 of 6 images left out" in note for note in report["scenes"]["street"]["notes"])
    assert "2 usable images, and 5 are needed" in report["left_out"]["kitchen"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))


def test_captures_without_points_get_their_depths_from_the_cameras(tmp_path):
    _, cameras = refine_files.write_scene(tmp_path / "scan")
    report = make_capture_data(tmp_path / "out", [cameras], OPTIONS)
    scene = report["scenes"]["scan"]
    assert any("no points" in note for note in scene["notes"])
    table = np.zeros(60, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    for axis, values in zip("xyz", refine_files.made()[0].means[0].T, strict=True):
        table[axis] = values
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")]).write(str(tmp_path / "scan" / "points.ply"))
    content = json.loads(cameras.read_text()) | {"ply_file_path": "points.ply"}
    cameras.write_text(json.dumps(content))
    with_points = make_capture_data(tmp_path / "out", [cameras], OPTIONS)["scenes"]["scan"]
    assert not any("no points" in note for note in with_points["notes"])
    assert 0 < scene["depths"][0] <= scene["depths"][1] <= scene["depths"][2] < 100


def test_lenses_are_undone_and_masks_are_said_to_be_left_out(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path / "fish", "OPENCV_FISHEYE", (20, 21, 8, 6, 0.01, 0, 0, 0), count=6)
    (folder / "masks").mkdir()
    Image.new("L", (16, 12), 255).save(folder / "masks" / "0.png")
    notes = make_capture_data(tmp_path / "out", [folder], CaptureOptions(size=(12, 16)))["scenes"]["fish"]["notes"]
    assert "undistorted" in notes and any("masks are left out" in note for note in notes)


def test_the_command(tmp_path, captures, capsys):
    words = ["make-data", str(tmp_path / "out"), "--size", "16x20", "--overlap", "0.8", "0.5"]
    assert main([*words, *(word for capture in captures for word in ("--from", capture))]) == 0
    out = capsys.readouterr().out
    assert "garden: train, 6 frames" in out and "dataset.near=" in out and "Wrote 3 scenes" in out
    assert main([*words, "--from", str(tmp_path / "nowhere")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["make-data", str(tmp_path / "rooms"), "--size", "16x20"]) == 2
    assert "rooms are square" in capsys.readouterr().err
