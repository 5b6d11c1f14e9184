"""Photographs to a scene, on a procedural room whose true cameras are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from diff3r_plugin.cli.main import main
from diff3r_plugin.data import sample_scene
from diff3r_plugin.data.ray_caster import render_room
from diff3r_plugin.io import read_colmap_points, read_posed_images
from diff3r_plugin.io.world_frames import camera_centers
from diff3r_plugin.reconstruction import ReconstructionError, ReconstructionSettings, reconstruct
from diff3r_plugin.reconstruction.poses import StructureFromMotion, photographs

pycolmap = pytest.importorskip("pycolmap")

FRAMES, SIZE = 12, 320


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> tuple[Path, torch.Tensor]:
    """A folder of photographs and where they were taken from."""
    folder = tmp_path_factory.mktemp("photos")
    scene = sample_scene(3, "train", 0, FRAMES)
    for number, pose in enumerate(scene.camera_to_room):
        image, _ = render_room(scene.room, pose, scene.intrinsics, (SIZE, SIZE), 1)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder, torch.linalg.inv(torch.from_numpy(scene.world_to_camera).double())[:, :3, 3]


@pytest.fixture
def settings(room, tmp_path) -> ReconstructionSettings:
    few = {"rounds": 4, "validation": 0, "hold_out": "every:6", "pictures": 0}
    return ReconstructionSettings(room[0], tmp_path / "out", size=96, threads=1, refinement=few)


def ratios(centers: torch.Tensor) -> torch.Tensor:
    """Distances between cameras, in units of their mean: what a similarity keeps."""
    distances = torch.cdist(centers, centers)
    return distances / distances.mean()


@pytest.mark.slow
def test_photographs_become_cameras_points_and_a_scene(room, settings):
    said: list[str] = []
    result = reconstruct(settings, say=said.append)
    posed = read_posed_images(settings.out / "undistorted")
    assert len(posed) >= FRAMES - 1 and max(posed.sizes[0]) == 96
    taken = torch.tensor([int(Path(name).stem) for name in posed.names])
    assert (ratios(camera_centers(posed)) - ratios(room[1][taken])).abs().max() < 0.05
    assert len(read_colmap_points(settings.out / "undistorted").positions) > 100
    assert result.metrics["after"]["held_out"]["psnr"] > result.metrics["before"]["held_out"]["psnr"]
    assert (settings.out / "refined" / "refined.ply").is_file()
    assert any("photographs have cameras" in line for line in said)


@pytest.mark.slow
def test_each_step_resumes_and_what_is_done_is_not_done_again(settings, monkeypatch):
    names, _ = photographs(settings.photos)

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StructureFromMotion, "_map", interrupted)
        with pytest.raises(KeyboardInterrupt):
            StructureFromMotion(settings, names, lambda line: None).run()
    matched = (settings.out / "sfm" / "database.db").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(StructureFromMotion, "_undistort", lambda self, model: interrupted(self))
        with pytest.raises(KeyboardInterrupt):
            StructureFromMotion(settings, names, lambda line: None).run()
    database = pycolmap.Database.open(settings.out / "sfm" / "database.db")
    assert database.num_images() == FRAMES and len(matched) > 0
    models = {file: file.stat().st_mtime_ns for file in (settings.out / "sfm" / "models").rglob("*.bin")}
    (settings.out / "undistorted.part").mkdir()
    (settings.out / "undistorted.part" / "half").write_text("")
    folder = StructureFromMotion(settings, names, lambda line: None).run()
    assert not (folder / "half").exists() and len(read_posed_images(folder)) >= FRAMES - 1
    assert models == {file: file.stat().st_mtime_ns for file in (settings.out / "sfm" / "models").rglob("*.bin")}
    for step in ("_features", "_matches", "_map", "_undistort"):
        monkeypatch.setattr(StructureFromMotion, step, interrupted)
    assert StructureFromMotion(settings, names, lambda line: None).run() == folder


def test_another_run_in_the_folder_is_refused(settings, tmp_path):
    settings.out.mkdir()
    sizes = {name: (settings.photos / name).stat().st_size for name in photographs(settings.photos)[0]}
    record = settings.out / "reconstruction.json"
    record.write_text(json.dumps({**settings.of_sfm(), "photos": {**sizes, "more.png": 1}}))
    with pytest.raises(ReconstructionError, match="has other photographs"):
        reconstruct(settings)
    record.write_text(json.dumps({**settings.of_sfm(), "photos": sizes}))
    with pytest.raises(ReconstructionError, match="matching='auto', this one 'exhaustive'"):
        reconstruct(replace(settings, matching="exhaustive"))
    record.write_text("{")
    with pytest.raises(ReconstructionError, match="is damaged; remove"):
        reconstruct(settings)


def test_photographs_of_nothing_in_common_are_refused_with_what_they_need(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = torch.full((64, 64, 3), 80 * number, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    with pytest.raises(ReconstructionError, match=r"No cameras were found for the 3 photographs.*must overlap"):
        reconstruct(ReconstructionSettings(tmp_path / "photos", tmp_path / "out", threads=1))


def test_folders_are_searched_and_damaged_files_named(tmp_path):
    for name in ("b/1.JPG", "a/2.png", "3.jpeg", ".hidden/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "5.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("")
    assert photographs(tmp_path) == (["3.jpeg", "a/2.png", "b/1.JPG"], ["5.png"])
    (tmp_path / "3.jpeg").unlink()
    with pytest.raises(ReconstructionError, match=r"holds 2 photographs.*1 are damaged, the first is 5\.png"):
        photographs(tmp_path)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys, monkeypatch):
    assert main(["reconstruct", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
    assert "is no folder of photographs" in capsys.readouterr().err
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    assert main(["reconstruct", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "pip install 'diff3r-plugin[sfm]'" in capsys.readouterr().err
