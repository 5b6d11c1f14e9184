"""nerfstudio's and instant-ngp's ``transforms.json``."""

import json
import math
import warnings

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, FileWarning, FisheyeLens, Lens, read_posed_images, read_transforms_json

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")


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
        ({"k4": 0.06}, r"k4=0.06.*mean differently.*colmap image_undistorter"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR.*pinholes"),
        ({"camera_model": "VR180_L"}, "VR180_L"),
        ({"latlong": True}, "latlong=True"),
        ({"ftheta_p0": 0.1}, "ftheta_p0=0.1"),
        ({"camera_model": "PINHOLE", "is_fisheye": True}, "one of them is wrong"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, "a fisheye has p1=0.1"),
        ({"distortion_params": [0.1] * 7}, "distortion_params must be up to six"),
        ({"from_mitsuba": True}, "from_mitsuba"),
        ({"applied_scale": "big"}, "applied_scale must be a positive number"),
        ({"applied_transform": [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]]}, "mirror images"),
        ({"test_filenames": "images/0.png"}, "test_filenames must be a list"),
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
        read_transforms_json(io_files.write_transforms(tmp_path, **changes), world="original")


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
        read_transforms_json(path).views()


def told_of(path, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_transforms_json(path, **options)
    return [str(each.message) for each in told if issubclass(each.category, FileWarning)]


@pytest.mark.parametrize(
    ("changes", "lens"),
    [
        ({"camera_model": "pinhole"}, None),
        ({"camera_model": "opencv", "k3": 0.06}, Lens(k3=0.06)),
        ({"distortion_params": [0.1, 0.2, 0.3, 0, 0.01, 0.02]}, Lens(0.1, 0.2, 0.01, 0.02, 0.3)),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.4}, FisheyeLens(0.1, 0, 0, 0.4)),
        ({"is_fisheye": True, "k2": 0.2, "k3": 0.3}, FisheyeLens(0, 0.2, 0.3)),
        ({"is_fisheye": True, "camera_model": "OPENCV", "k1": 0.2}, FisheyeLens(0.2)),
        ({"is_fisheye": False, "k1": 0.0}, None),
    ],
)
def test_lenses_are_read_by_all_keys_that_say_what_they_are(tmp_path, changes, lens):
    posed = read_transforms_json(io_files.write_transforms(tmp_path, **changes))
    assert posed.lenses == (lens,) * 3
    assert posed.undistorted().views().num_views == 3


def test_a_pinhole_that_distorts_is_told_of(tmp_path):
    path = io_files.write_transforms(tmp_path, camera_model="SIMPLE_PINHOLE", k1=0.1)
    assert any("taken to distort" in line for line in told_of(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fisheye_crop_radius", 100),
        ("sharpness_discard_threshold", 0.5),
        ("white_transparent", True),
        ("black_transparent", True),
        ("envmap", "sky.exr"),
    ],
)
def test_keys_that_are_not_applied_are_told_of_by_name(tmp_path, key, value):
    assert any(f"{key}={value!r}" in line for line in told_of(io_files.write_transforms(tmp_path, **{key: value})))
    assert not told_of(io_files.write_transforms(tmp_path / "other", aabb_scale=4, scale=0.33, offset=[0.5, 0.5, 0.5]))


def test_frames_that_move_are_told_of(tmp_path):
    path = io_files.write_transforms(tmp_path, rolling_shutter=[0, 0, 1, 0])
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        start = frame.pop("transform_matrix")
        frame |= {"transform_matrix_start": start, "transform_matrix_end": [[*r[:3], r[3] + 1] for r in start]}
    path.write_text(json.dumps(content))
    assert any("3 frames move" in line for line in told_of(path))
    assert torch.allclose(read_transforms_json(path).world_to_camera, io_files.poses())


def test_the_first_frames_alone_where_it_says_so(tmp_path):
    path = io_files.write_transforms(tmp_path, n_frames=2)
    assert any("n_frames=2" in line for line in told_of(path)) and len(read_transforms_json(path)) == 2


def test_a_field_of_view_in_degrees(tmp_path):
    path = io_files.write_transforms(tmp_path, fl_x=None, fl_y=None, x_fov=90.0)
    assert float(read_transforms_json(path).intrinsics[0, 0, 0]) == pytest.approx(8)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_byte_order_mark_changes_nothing(tmp_path, encoding):
    path = io_files.write_transforms(tmp_path)
    path.write_text(path.read_text(), encoding=encoding)
    assert len(read_transforms_json(path)) == 3


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_without_sizes_the_principal_point_tells_whose_pixels_they_are(tmp_path, factor):
    """Images made smaller after the file was written."""
    focal = {"fl_x": 20.0 * factor, "fl_y": 21.0 * factor, "cx": 8.2 * factor, "cy": 6.1 * factor}
    path = io_files.write_transforms(tmp_path, **focal, w=None, h=None)
    assert any(f"smaller by {factor}" in line for line in told_of(path))
    matrix = read_transforms_json(path).views().intrinsics[0, 0]
    assert matrix[0].tolist() == pytest.approx([20, 0, 8.2]) and matrix[1].tolist() == pytest.approx([0, 21, 6.1])


def test_without_sizes_what_cannot_be_told_is_refused_and_the_cure_works(tmp_path):
    path = io_files.write_transforms(tmp_path, cx=13.0, cy=6.0, w=None, h=None)
    with pytest.raises(FileError, match="Add w and h"):
        read_transforms_json(path).views()
    path = io_files.write_transforms(tmp_path / "cured", cx=13.0, cy=6.0)
    assert read_transforms_json(path).views().num_views == 3


def test_without_sizes_and_principal_point_it_is_told_whose_pixels_are_taken(tmp_path):
    path = io_files.write_transforms(tmp_path, cx=None, cy=None, w=None, h=None)
    assert any("taken in pixels of its images as they are, 16 x 12" in line for line in told_of(path))


def test_one_side_of_the_image_gives_the_other(tmp_path):
    assert read_transforms_json(io_files.write_transforms(tmp_path, w=32, h=None)).sizes[0] == (24, 32)


def test_lists_of_file_names_are_splits(tmp_path):
    path = io_files.write_transforms(
        tmp_path, train_filenames=["./images/0.png", "images/2.png"], test_filenames=["images/1.png", "images/0.png"]
    )
    assert read_transforms_json(path).splits == ("train", "test", "train")


def test_the_original_world_is_that_before_scale_and_transform(tmp_path):
    axes = torch.tensor([[1.0, 0, 0, 2], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    original = torch.linalg.inv(io_files.poses())
    saved = axes @ original
    saved[:, :3, 3] *= 4.0
    frames = [
        {"file_path": f"images/{i}.png", "transform_matrix": (pose * torch.tensor([1, -1, -1, 1])).tolist()}
        for i, pose in enumerate(saved)
    ]
    path = io_files.write_transforms(tmp_path, applied_transform=axes[:3].tolist(), applied_scale=4.0, frames=frames)
    assert torch.allclose(read_transforms_json(path, world="original").world_to_camera, io_files.poses())


def blender(folder) -> None:
    for split, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (2,))):
        path = io_files.write_transforms(folder / "all", **dict.fromkeys(("fl_x", "fl_y", "cx", "cy", "w", "h")))
        content = json.loads(path.read_text())
        frames = [content["frames"][i] | {"file_path": f"./{split}/r_{i}"} for i in numbers]
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.9, "frames": frames}))
        (folder / split).mkdir()
        for i in numbers:
            (folder / split / f"r_{i}.png").write_bytes(io_files.image_bytes(i))
            (folder / split / f"r_{i}_depth_0001.png").write_bytes(io_files.image_bytes(7))


def test_folders_of_blender_are_read_with_their_splits(tmp_path):
    blender(tmp_path)
    posed = read_posed_images(tmp_path)
    assert posed.splits == ("train", "train", "test")
    assert posed.names == ("./train/r_0", "./train/r_1", "./test/r_2")
    assert torch.allclose(posed.world_to_camera, io_files.poses()) and posed.views().num_views == 3
    assert len(read_posed_images(tmp_path / "transforms_val.json")) == 1
