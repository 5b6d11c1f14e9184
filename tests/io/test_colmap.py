"""COLMAP models: our reader against files written byte by byte, and against pycolmap where it is installed."""

from __future__ import annotations

import struct

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, read_colmap, read_colmap_points

WRITERS = {"binary": io_files.write_colmap_binary, "text": io_files.write_colmap_text}


@pytest.mark.parametrize("form", WRITERS)
def test_cameras_images_and_points(tmp_path, form):
    posed = read_colmap(WRITERS[form](tmp_path))
    assert torch.allclose(posed.world_to_camera, io_files.poses(), atol=1e-12)
    assert posed.intrinsics[2].tolist() == [[20.0, 0, 8.5], [0, 21.0, 6.5], [0, 0, 1]]
    assert posed.names == ("0.png", "1.png", "2.png") and posed.views().images.shape == (1, 3, 3, 12, 16)
    points = read_colmap_points(tmp_path)
    assert points.positions[4].tolist() == [4.0, 2.0, 3.0]
    assert points.colors[4].tolist() == pytest.approx([40 / 255, 0.2, 1.0])


@pytest.mark.parametrize(
    ("model", "params", "focal"),
    [
        ("SIMPLE_PINHOLE", (20, 8, 6), (20, 20)),
        ("PINHOLE", (20, 21, 8, 6), (20, 21)),
        ("SIMPLE_RADIAL", (20, 8, 6, 0), (20, 20)),
        ("RADIAL", (20, 8, 6, 0, 0), (20, 20)),
        ("OPENCV", (20, 21, 8, 6, 0, 0, 0, 0), (20, 21)),
    ],
)
def test_models_without_distortion_are_exact(tmp_path, model, params, focal):
    matrix = read_colmap(io_files.write_colmap_binary(tmp_path, model, params)).intrinsics[0]
    assert (float(matrix[0, 0]), float(matrix[1, 1])) == focal and matrix[:2, 2].tolist() == [8, 6]


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("SIMPLE_RADIAL", (20, 8, 6, 0.01)),
        ("RADIAL", (20, 8, 6, 0, 0.01)),
        ("OPENCV", (20, 21, 8, 6, 0, 0, 0, 1e-3)),
    ],
)
def test_lenses_that_distort_are_refused_with_the_cure(tmp_path, model, params):
    posed = read_colmap(io_files.write_colmap_binary(tmp_path, model, params))
    with pytest.raises(FileError, match=r"'0.png' distorts \(.*=0.0*1\).*colmap image_undistorter.*--undistort"):
        posed.views()
    assert posed.undistorted().views().num_views == 3


def test_fisheyes_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"OPENCV_FISHEYE.*colmap image_undistorter"):
        read_colmap(io_files.write_colmap_binary(tmp_path, "OPENCV_FISHEYE", (20, 21, 8, 6, 0, 0, 0, 0)))


def test_counts_that_the_file_cannot_hold_allocate_nothing(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path)
    file = folder / "sparse" / "0" / "points3D.bin"
    whole = file.read_bytes()
    file.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    with pytest.raises(FileError, match="promises 4611686018427387904 x 43 bytes"):
        read_colmap_points(folder)
    file.write_bytes(whole[:8] + whole[8:51] + struct.pack("<Q", 1 << 61) + whole[59:])
    with pytest.raises(FileError, match="promises"):
        read_colmap_points(folder)


def test_a_camera_that_is_not_there_and_a_rotation_that_is_none(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path)
    file = folder / "sparse" / "0" / "images.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:68] + struct.pack("<i", 8) + whole[72:])
    with pytest.raises(FileError, match=r"'0.png' has camera 8"):
        read_colmap(folder)
    file.write_bytes(whole[:12] + struct.pack("<d", 3.0) + whole[20:])
    with pytest.raises(FileError, match=r"pose of '0.png'"):
        read_colmap(folder)


def test_missing_images_are_counted(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path)
    (folder / "images" / "1.png").unlink()
    with pytest.raises(FileError, match=r"1 of its 3 images are missing.*1\.png"):
        read_colmap(folder)


@pytest.mark.parametrize("form", WRITERS)
def test_pycolmap_reads_the_same(tmp_path, form):
    pycolmap = pytest.importorskip("pycolmap")
    folder = WRITERS[form](tmp_path)
    theirs = pycolmap.Reconstruction(str(folder / "sparse" / "0" if form == "binary" else folder / "sparse"))
    ours = read_colmap(folder)
    by_name = {image.name: image for image in theirs.images.values()}
    for number, name in enumerate(ours.names):
        image = by_name[name]
        pose = torch.from_numpy(image.cam_from_world().matrix())
        assert torch.allclose(ours.world_to_camera[number, :3], pose, atol=1e-9)
        matrix = torch.from_numpy(image.camera.calibration_matrix())
        assert torch.allclose(ours.intrinsics[number], matrix)
    assert len(theirs.points3D) == len(read_colmap_points(folder).positions)
