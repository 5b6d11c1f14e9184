"""Cameras with images that are loaded when asked for."""

import json
import warnings

import io_files
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from diff3r_plugin.io import FileError, read_posed_images, read_transforms_json, scaled_intrinsics

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")


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


def test_only_images_that_are_asked_for_must_be_there(tmp_path):
    path = io_files.write_transforms(tmp_path, w=None, h=None)
    (tmp_path / "images" / "1.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "images" / "2.png").unlink()
    posed = read_transforms_json(path)
    assert posed.subset([0]).views().num_views == 1
    with pytest.raises(FileError, match=r"1\.png"):
        posed.subset([1]).views()
    with pytest.raises(FileError, match=r"1 of its 2 images are missing, the first is 'images/2.png'"):
        posed.subset([0, 2]).views()


def test_a_frame_that_is_named_twice_is_refused_once_both_are_asked_for(tmp_path):
    path = io_files.write_transforms(tmp_path)
    content = json.loads(path.read_text())
    content["frames"][1]["file_path"] = "images/0.png"
    path.write_text(json.dumps(content))
    posed = read_transforms_json(path)
    assert posed.subset([1, 2]).views().num_views == 2
    with pytest.raises(FileError, match="have the same image"):
        posed.views()


def turned_photograph(file, orientation: int) -> torch.Tensor:
    """Write a photograph of 16 x 12 as it is stored, and return how it looks when it is turned as it says."""
    pixels = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(file, "PNG", exif=exif)
    with Image.open(file) as again:
        upright = np.array(ImageOps.exif_transpose(again))
    return torch.from_numpy(upright).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_photograph_is_turned_where_its_camera_is_upright(tmp_path, orientation):
    path = io_files.write_transforms(tmp_path, w=12, h=16, cx=6.0, cy=8.0)
    upright = [turned_photograph(tmp_path / "images" / f"{i}.png", orientation) for i in range(3)]
    posed = read_transforms_json(path)
    assert posed.size() == (16, 12)
    assert torch.equal(posed.views().images[0, 1], upright[1])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pixels_are_taken_as_they_are_stored_where_that_fits_the_camera(tmp_path, orientation):
    path = io_files.write_transforms(tmp_path)
    for number in range(3):
        turned_photograph(tmp_path / "images" / f"{number}.png", orientation)
    stored = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        images = read_transforms_json(path).views().images
    assert torch.equal(images[0, 0], torch.from_numpy(stored).permute(2, 0, 1).float() / 255)
    assert any(f"EXIF orientation {orientation}" in str(each.message) for each in told) == (orientation != 1)


def halves(folder) -> None:
    """Masks whose left half is 255 and right half 0."""
    folder.mkdir(exist_ok=True)
    pixels = np.zeros((12, 16), np.uint8)
    pixels[:, :8] = 1  # anything but zero is white
    for number in range(2):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_masks_of_a_transforms_json_become_pixel_weights(tmp_path):
    path = io_files.write_transforms(tmp_path)
    halves(tmp_path / "masks")
    content = json.loads(path.read_text())
    for number in range(2):
        content["frames"][number]["mask_path"] = f"masks/{number}.png"
    path.write_text(json.dumps(content))
    posed = read_transforms_json(path)
    weights = posed.pixel_weights((12, 16))
    assert weights.shape == (1, 3, 12, 16) and weights[0, 2].eq(1).all()
    assert weights[0, 0, :, :8].eq(1).all() and weights[0, 0, :, 8:].eq(0).all()
    assert posed.pixel_weights((6, 8))[0, 1].sum() == 24 and posed.subset([2]).pixel_weights((6, 8)) is None
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(FileError, match=r"masks/1\.png"):
        read_transforms_json(path).views()


def test_masks_of_instant_ngp_are_white_where_pixels_do_not_count(tmp_path):
    path = io_files.write_transforms(tmp_path)
    halves(tmp_path / "masks")
    for number in range(2):
        (tmp_path / "masks" / f"{number}.png").rename(tmp_path / "images" / f"dynamic_mask_{number}.png")
    weights = read_transforms_json(path).pixel_weights((12, 16))
    assert weights[0, 0, :, :8].eq(0).all() and weights[0, 0, :, 8:].eq(1).all() and weights[0, 2].eq(1).all()


@pytest.mark.parametrize("suffix", [".png.png", ".png"])
def test_masks_beside_the_images_of_a_model_are_taken(tmp_path, suffix):
    folder = io_files.write_colmap_binary(tmp_path / "model")
    halves(folder / "masks")
    for number in range(2):
        (folder / "masks" / f"{number}.png").rename(folder / "masks" / f"{number}{suffix}")
    weights = read_posed_images(folder).pixel_weights((12, 16))
    assert weights[0, 1, :, 8:].eq(0).all() and weights[0, 2].eq(1).all()


def test_masks_are_undistorted_with_their_images(tmp_path):
    path = io_files.write_transforms(tmp_path, k1=0.4)
    halves(tmp_path / "masks")
    content = json.loads(path.read_text())
    content["frames"][0]["mask_path"] = "masks/0.png"
    path.write_text(json.dumps(content))
    posed = read_transforms_json(path).undistorted()
    undo = posed.undistortions[0]
    expected = undo.apply(read_transforms_json(path).pixel_weights((12, 16))[0, :1])[0]
    assert torch.equal(posed.pixel_weights((12, 16))[0, 0], expected)
