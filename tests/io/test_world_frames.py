"""Worlds of cameras, points and splats, and how nerfstudio moves them."""

from __future__ import annotations

import json

import io_files
import numpy as np
import plyfile
import pytest
import torch

from diff3r_plugin.io import FileError, read_posed_images, read_transforms_json
from diff3r_plugin.io.scenes import read_points
from diff3r_plugin.io.world_frames import (
    COLMAP_APPLIED,
    OLD_APPLIED,
    camera_centers,
    moved,
    nerfstudio_way,
    origin_for,
    points_moved,
    scale_of,
    shift,
)

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")

ALIGN = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)


def four(rows) -> torch.Tensor:
    return torch.cat([torch.tensor(rows, dtype=torch.float64), torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)])


def trained(folder, posed, applied: torch.Tensor, applied_scale: float = 1.0):
    """What nerfstudio does to the cameras of a file, and the file that it writes of that: (file, cameras' centers)."""
    centers = camera_centers(posed)
    align = ALIGN.clone()
    align[:3, 3] = -(ALIGN[:3, :3] @ centers.mean(0))  # its poses lie around the origin
    aligned = points_moved(centers, align)
    scale = 1 / float(aligned.abs().max())
    content = {"transform": (align @ applied)[:3].tolist(), "scale": scale * applied_scale}
    (folder / "dataparser_transforms.json").write_text(json.dumps(content))
    return folder / "dataparser_transforms.json", aligned * scale


def test_similarities_move_cameras_and_points_alike(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path))
    way = torch.diag(torch.tensor([3.0, 3, 3, 1], dtype=torch.float64)) @ ALIGN @ shift((1, 2, 3))
    point = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    seen = posed.world_to_camera[1, :3, :3] @ point[0] + posed.world_to_camera[1, :3, 3]
    pose = moved(posed, way).world_to_camera[1]
    there = pose[:3, :3] @ points_moved(point, way)[0] + pose[:3, 3]
    assert torch.allclose(there, 3 * seen) and scale_of(way) == pytest.approx(3)


@pytest.mark.parametrize("applied_scale", [1.0, 0.25])
@pytest.mark.parametrize("how", ["written down", "nothing", "old"])
def test_cameras_come_into_the_world_of_nerfstudios_splats(tmp_path, how, applied_scale):
    applied = {"written down": four(COLMAP_APPLIED), "nothing": torch.eye(4).double(), "old": four(OLD_APPLIED)}[how]
    said = {"applied_transform": applied[:3].tolist()} if how == "written down" else {}
    path = io_files.write_transforms(tmp_path, **said, applied_scale=applied_scale)
    file, centers = trained(tmp_path, read_transforms_json(path), applied, applied_scale)
    assert torch.allclose(camera_centers(read_transforms_json(path, world=file)), centers, atol=1e-9)


@pytest.mark.parametrize("older", [False, True])
def test_so_do_cameras_of_the_model_that_nerfstudio_read_itself(tmp_path, older):
    folder = io_files.write_colmap_binary(tmp_path / "model")
    axes = four(COLMAP_APPLIED)
    file, centers = trained(tmp_path, moved(read_posed_images(folder), axes), torch.eye(4).double() if older else axes)
    assert torch.allclose(camera_centers(read_posed_images(folder, world=file)), centers, atol=1e-9)
    points = read_points(folder, file).positions
    expected = points_moved(read_points(folder).positions, nerfstudio_way_of(folder, file, older))
    assert torch.allclose(points, expected, atol=1e-9)


def nerfstudio_way_of(folder, file, older: bool) -> torch.Tensor:
    between = torch.linalg.inv(four(COLMAP_APPLIED)) if older else torch.eye(4, dtype=torch.float64)
    return nerfstudio_way(file, [between], read_posed_images(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no 'transform'"),
        ('{"transform": [[1, 0], [0, 1]], "scale": 1}', "3 x 4"),
        ('{"transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": -1}', "scale must be a positive"),
        ("{", "cannot be read"),
    ],
)
def test_damaged_files_of_nerfstudio_are_errors(tmp_path, content, message):
    path = io_files.write_transforms(tmp_path)
    (tmp_path / "dataparser_transforms.json").write_text(content)
    with pytest.raises(FileError, match=message):
        read_transforms_json(path, world=tmp_path / "dataparser_transforms.json")


def test_points_that_a_transforms_json_names(tmp_path):
    path = io_files.write_transforms(tmp_path, ply_file_path="sparse_pc.ply", applied_scale=2.0)
    table = np.zeros(2, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    table["x"] = [2, 4]
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")]).write(str(tmp_path / "sparse_pc.ply"))
    assert read_points(path).positions[:, 0].tolist() == [2, 4]
    assert read_points(path.parent, "original").positions[:, 0].tolist() == [1, 2]
    assert read_points(tmp_path / "sparse_pc.ply").positions[:, 0].tolist() == [2, 4]
    (tmp_path / "sparse_pc.ply").unlink()
    with pytest.raises(FileError, match=r"'sparse_pc.ply' are missing"):
        read_points(path)
    with pytest.raises(FileError, match=r"ply_file_path.*--points"):
        read_points(io_files.write_transforms(tmp_path / "none"))


def test_cameras_far_from_the_origin_get_one_of_their_own(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path))
    assert origin_for(posed) is None
    far = moved(posed, shift((448_262.0, 5_411_933.0, 231.0)))
    origin = origin_for(far)
    assert torch.allclose(camera_centers(moved(far, shift(-origin))), camera_centers(posed), atol=3)
    assert torch.allclose(
        moved(far, shift(-origin)).world_to_camera,
        moved(posed, shift(torch.tensor([448_262.0, 5_411_933.0, 231.0]).double() - origin)).world_to_camera,
        atol=1e-8,
    )
