"""COLMAP models: our reader against files written byte by byte, and against pycolmap where it is installed."""

from __future__ import annotations

import os
import shutil
import struct

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, FileWarning, read_colmap, read_colmap_points, read_posed_images

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")

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
    file.write_bytes(whole[:12] + struct.pack("<4d", 0, 0, 0, 0) + whole[44:])
    with pytest.raises(FileError, match=r"pose of '0.png'"):
        read_colmap(folder)


def test_missing_images_are_counted(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path)
    (folder / "images" / "1.png").unlink()
    with pytest.raises(FileError, match=r"1 of its 3 images are missing.*1\.png"):
        read_colmap(folder).views()


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


def test_quaternions_need_not_be_normalized(tmp_path):
    folder = io_files.write_colmap_text(tmp_path)
    file = folder / "sparse" / "images.txt"
    lines = file.read_text().splitlines()
    for number in (1, 3, 5):
        fields = lines[number].split()
        fields[1:5] = [repr(3 * float(field)) for field in fields[1:5]]
        lines[number] = " ".join(fields)
    file.write_text("\n".join(lines) + "\n")
    assert torch.allclose(read_colmap(folder).world_to_camera, io_files.poses(), atol=1e-12)


@pytest.mark.parametrize("left", ["all", "some", "last"])
def test_images_without_their_second_lines(tmp_path, left):
    folder = io_files.write_colmap_text(tmp_path)
    file = folder / "sparse" / "images.txt"
    lines = file.read_text().splitlines()  # a comment, then two for each of three images; the last one's is empty
    lines[5] = lines[5].replace("2.png", "2 3 4.png")
    (folder / "images" / "2.png").rename(folder / "images" / "2 3 4.png")
    keep = {"all": [0, 1, 3, 5], "some": [0, 1, 2, 3, 5], "last": [0, 1, 2, 3, 4, 5]}[left]
    file.write_text("\n".join(lines[i] for i in keep))
    posed = read_colmap(folder)
    assert posed.names == ("0.png", "1.png", "2 3 4.png")
    assert torch.allclose(posed.world_to_camera, io_files.poses(), atol=1e-12)


def test_a_text_model_that_holds_fewer_images_than_it_says_is_told_of(tmp_path):
    folder = io_files.write_colmap_text(tmp_path)
    file = folder / "sparse" / "images.txt"
    file.write_text("# Number of images: 5, mean observations per image: 3\n" + file.read_text())
    with pytest.warns(FileWarning, match="says 5 images, and 3 are in it"):
        read_colmap(folder)


def test_a_byte_order_mark_changes_nothing(tmp_path):
    folder = io_files.write_colmap_text(tmp_path)
    for name in ("cameras", "images", "points3D"):
        file = folder / "sparse" / f"{name}.txt"
        file.write_text(file.read_text(), encoding="utf-8-sig")
    assert len(read_colmap(folder)) == 3 and len(read_colmap_points(folder).positions) == 5


@pytest.mark.parametrize("form", WRITERS)
def test_names_that_are_not_utf8(tmp_path, form):
    folder = WRITERS[form](tmp_path)
    file = folder / ("sparse/0/images.bin" if form == "binary" else "sparse/images.txt")
    file.write_bytes(file.read_bytes().replace(b"1.png", b"\xfc.png"))
    os.rename(folder / "images" / "1.png", os.fsencode(folder / "images") + b"/\xfc.png")
    posed = read_colmap(folder)
    assert posed.views().num_views == 3 and "\\xfc.png" in posed.names


@pytest.mark.parametrize("place", ["colmap/sparse/0", "sparse/0", "sparse", "dense/sparse", "sparse/2"])
def test_models_are_found_where_tools_put_them(tmp_path, place):
    folder = io_files.write_colmap_binary(tmp_path / "made")
    data = tmp_path / "data"
    (data / place).parent.mkdir(parents=True)
    (folder / "sparse" / "0").rename(data / place)
    (folder / "images").rename(data / "images")
    assert read_colmap(data).views().num_views == 3
    assert read_colmap(data / place).views().num_views == 3
    assert len(read_posed_images(data)) == 3


def test_of_several_models_one_is_read_and_said(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path)
    shutil.copytree(folder / "sparse" / "0", folder / "sparse" / "3")
    (folder / "sparse" / "0").rename(folder / "sparse" / "1")
    with pytest.warns(FileWarning, match=r"2 models, 1, 3; .*sparse/1 is read"):
        read_colmap(folder)


CAMERAS = {
    "OPENCV_FISHEYE": (20, 21, 8, 6, 0.05, -0.02, 0.01, 0.003),
    "FULL_OPENCV": (20, 21, 8, 6, 0.05, -0.02, 0.001, 0.002, 0.01, 0.04, -0.02, 0.003),
    "FOV": (20, 21, 8, 6, 0.4),
    "SIMPLE_RADIAL_FISHEYE": (20, 8, 6, 0.03),
    "RADIAL_FISHEYE": (20, 8, 6, 0.03, -0.01),
    "THIN_PRISM_FISHEYE": (20, 21, 8, 6, 0.05, -0.02, 0.001, 0.002, 0.01, 0.004, 0.001, 0.002),
    "RAD_TAN_THIN_PRISM_FISHEYE": (20, 21, 8, 6, *(0.01,) * 6, *(0.001,) * 6),
    "SIMPLE_DIVISION": (20, 8, 6, -0.1),
    "DIVISION": (20, 21, 8, 6, -0.1),
    "SIMPLE_FISHEYE": (20, 8, 6),
    "FISHEYE": (20, 21, 8, 6),
    "EUCM": (20, 21, 8, 6, 0.5, 1.1),
}


@pytest.mark.parametrize("model", CAMERAS)
@pytest.mark.parametrize("form", ["binary", "text"])
def test_every_camera_model_sees_rays_where_colmap_does(tmp_path, model, form):
    pycolmap = pytest.importorskip("pycolmap")
    folder = io_files.write_colmap_binary(tmp_path, model, CAMERAS[model])
    if form == "text":
        place = folder / "sparse" / "0"
        model_ = pycolmap.Reconstruction(str(place))
        model_.write_text(str(place))
        for file in place.glob("*.bin"):
            file.unlink()
    posed = read_colmap(folder)
    rays = torch.rand(50, 2, dtype=torch.float64) - 0.5
    camera = pycolmap.Camera(model=model, width=16, height=12, params=list(CAMERAS[model]))
    theirs = torch.from_numpy(camera.img_from_cam(torch.cat([rays, torch.ones(50, 1)], -1).numpy()))
    matrix = posed.intrinsics[0]
    ours = posed.lenses[0].distort(rays) * matrix.diagonal()[:2] + matrix[:2, 2]
    assert torch.allclose(ours, theirs, atol=1e-9)
    with pytest.raises(FileError, match=r"distorts.*--undistort"):
        posed.views()
    assert posed.undistorted().views().num_views == 3


def test_images_in_all_directions_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"EQUIRECTANGULAR.*pinhole"):
        read_colmap(io_files.write_colmap_binary(tmp_path, "EQUIRECTANGULAR", (16, 12)))


def test_points_keep_their_digits(tmp_path):
    folder = io_files.write_colmap_text(tmp_path)
    (folder / "sparse" / "points3D.txt").write_text("1 500000.015625 2 3 1 2 3 0.5\n")
    assert float(read_colmap_points(folder).positions[0, 0]) == 500000.015625
