"""nerfstudio's and instant-ngp's ``transforms.json``."""

import json
import math

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, Lens, read_transforms_json


def test_cameras_come_out_in_opencv_axes_and_pixels(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path))
    assert torch.allclose(posed.world_to_camera, io_files.poses())
    assert posed.intrinsics[1].tolist() == [[20.0, 0, 8.5], [0, 21.0, 6.5], [0, 0, 1]]
    assert posed.sizes[0] == io_files.SIZE


def test_a_field_of_view_gives_the_focal_length_and_sizes_come_from_images(tmp_path):
    gone = dict.fromkeys(("fl_x", "fl_y", "cx", "cy", "w", "h"))
    path = io_files.write_transforms(tmp_path, **gone, camera_angle_x=2 * math.atan(0.5))
    expected = torch.tensor([[16.0, 0, 8], [0, 16.0, 6], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(read_transforms_json(path).intrinsics[0], expected)


def test_a_frame_may_have_intrinsics_of_its_own_and_no_suffix(tmp_path):
    path = io_files.write_transforms(tmp_path)
    content = json.loads(path.read_text())
    content["frames"][1] |= {"fl_x": 33.0, "file_path": "./images/1"}
    path.write_text(json.dumps(content))
    posed = read_transforms_json(path)
    assert posed.intrinsics[:, 0, 0].tolist() == [20.0, 33.0, 20.0]
    assert posed.sources[1].name == "1.png"


def test_images_may_lie_elsewhere(tmp_path):
    path = io_files.write_transforms(tmp_path / "data")
    (tmp_path / "data" / "images").rename(tmp_path / "small")
    assert read_transforms_json(path, images=tmp_path / "small").sources[0] == tmp_path / "small" / "0.png"


def test_the_original_world_is_that_before_the_applied_transform(tmp_path):
    applied = torch.tensor([[1.0, 0, 0, 2], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    path = io_files.write_transforms(tmp_path, applied_transform=applied[:3].tolist())
    original = read_transforms_json(path, world="original").world_to_camera
    assert torch.allclose(original, io_files.poses() @ applied)
    assert torch.allclose(read_transforms_json(path).world_to_camera, io_files.poses())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k3": 0.06}, r"k3.*colmap image_undistorter"),
        ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE"),
        ({"frames": []}, "no list of frames"),
        ({"frames": [{"transform_matrix": []}]}, "no file_path"),
        ({"frames": [{"file_path": "images/0.png"}]}, "transform_matrix must be a matrix"),
        ({"frames": [{"file_path": "images/0.png", "transform_matrix": [[2.0] * 4] * 3}]}, "no rotation"),
        ({"fl_x": None, "fl_y": None}, "neither fl_x nor camera_angle_x"),
        ({"fl_x": None, "camera_angle_x": 200.0}, "camera angle of 200"),
        ({"fl_x": "20"}, "fl_x must be a number, got '20'"),
        ({"fl_x": 1.2, "fl_y": 1.2, "cx": 0.5, "cy": 0.5}, "too small to be in pixels"),
        ({"w": -4}, "cannot be"),
    ],
)
def test_what_cannot_be_used_is_an_error_with_a_cure(tmp_path, changes, message):
    with pytest.raises(FileError, match=message):
        read_transforms_json(io_files.write_transforms(tmp_path, **changes))


def test_a_lens_that_distorts_is_kept_for_undistortion(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path, k1=0.06, p2=-0.001))
    assert posed.lenses[0] == Lens(k1=0.06, p2=-0.001)
    with pytest.raises(FileError, match=r"distorts \(k1=0.06, p2=-0.001\)"):
        posed.views()


def test_missing_images_are_counted(tmp_path):
    path = io_files.write_transforms(tmp_path)
    for number in (1, 2):
        (tmp_path / "images" / f"{number}.png").unlink()
    with pytest.raises(FileError, match=r"2 of its 3 images are missing, the first is .*1\.png.*--images"):
        read_transforms_json(path)
