"""Cameras with images that are loaded when asked for."""

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, read_posed_images, read_transforms_json, scaled_intrinsics


def test_intrinsics_are_scaled_with_the_images(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path))
    whole, half = posed.views(), posed.views(posed.size(downscale=2))
    assert whole.image_size == (12, 16) and half.image_size == (6, 8)
    assert torch.allclose(half.intrinsics[..., :2, :], whole.intrinsics[..., :2, :] / 2)
    assert torch.allclose(half.images, torch.nn.functional.avg_pool2d(whole.images[0], 2)[None], atol=1.01 / 255)


def test_a_point_is_seen_at_the_same_place_at_any_resolution():
    matrix = torch.tensor([[50.0, 0, 31.5], [0, 40, 20.25], [0, 0, 1]])
    point = torch.tensor([0.3, -0.2, 2.0])
    for size in ((10, 16), (48, 17)):
        seen, there = matrix @ point, scaled_intrinsics(matrix, (40, 64), size) @ point
        assert torch.allclose(there[:2] / there[2] / torch.tensor([size[1], size[0]]),
                              seen[:2] / seen[2] / torch.tensor([64, 40]))  # fmt: skip


def test_files_of_another_resolution_are_taken_and_of_another_shape_refused(tmp_path):
    path = io_files.write_transforms(tmp_path / "double", w=32, h=24, fl_x=40.0, fl_y=42.0, cx=17.0, cy=13.0)
    views = read_transforms_json(path).views()
    same = read_transforms_json(io_files.write_transforms(tmp_path / "same")).views()
    assert torch.allclose(views.intrinsics, same.intrinsics)
    wrong = read_transforms_json(io_files.write_transforms(tmp_path / "turned", w=12, h=16))
    with pytest.raises(FileError, match=r"'images/0.png' has 16 x 12 pixels and its camera 12 x 16"):
        wrong.views()


def test_subsets_keep_names_and_cameras(tmp_path):
    posed = read_transforms_json(io_files.write_transforms(tmp_path))
    some = posed.subset([2, 0])
    assert some.names == ("images/2.png", "images/0.png")
    assert torch.equal(some.world_to_camera, posed.world_to_camera[[2, 0]])


def test_what_a_path_is_decides_the_reader(tmp_path):
    transforms = io_files.write_transforms(tmp_path / "json")
    chunk = io_files.write_chunk(tmp_path / "000000.torch", ("a", "b"))
    colmap = io_files.write_colmap_binary(tmp_path / "colmap")
    poses = {
        str(place): read_posed_images(place).world_to_camera
        for place in (transforms, transforms.parent, f"{chunk}:b", colmap, colmap / "sparse" / "0")
    }
    for found in poses.values():
        assert torch.allclose(found, io_files.poses(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "no such file or folder"), ("file.xyz", "no file of cameras"), ("empty", "no COLMAP model")],
)
def test_what_fits_no_reader_is_an_error(tmp_path, name, message):
    (tmp_path / "file.xyz").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=message):
        read_posed_images(tmp_path / name)
