"""Axes and units, by name."""

import io_files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.io.conventions import camera_to_world, pixel_intrinsics, world_to_camera


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_the_two_directions_are_inverses(axes):
    poses = io_files.poses(5)
    assert torch.allclose(world_to_camera(camera_to_world(poses, axes), axes), poses, atol=1e-12)


def test_opencv_is_the_plain_inverse():
    poses = io_files.poses(5)
    assert torch.allclose(camera_to_world(poses, "opencv"), torch.linalg.inv(poses), atol=1e-12)


def test_an_opengl_camera_looks_along_minus_z_with_y_up():
    turned = world_to_camera(torch.eye(4, dtype=torch.float64), "opengl")
    point = torch.tensor([0.1, 0.2, -5.0, 1.0], dtype=torch.float64)  # right, up and in front of it
    assert (turned @ point).tolist() == pytest.approx([0.1, -0.2, 5.0, 1.0])


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda m: m * 2,
        lambda m: torch.diag(torch.tensor([1.0, 1, -1, 1])).double() @ m,
        lambda m: m * float("nan"),
        lambda m: torch.zeros_like(m),
    ],
    ids=["scaled", "mirrored", "nan", "zero"],
)
def test_what_is_no_pose_is_refused(corrupt):
    with pytest.raises(ValueError, match="no rotation with a translation"):
        world_to_camera(corrupt(io_files.poses(1)), "opencv")


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="axes='blender' is not one of opencv, opengl"):
        world_to_camera(io_files.poses(1), "blender")
    with pytest.raises(ValueError, match="units='mm' is not one of pixels, normalized"):
        pixel_intrinsics(1, 1, 0.5, 0.5, "mm", (10, 10))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.3, 3), st.floats(0.3, 3), st.integers(9, 2000), st.integers(9, 2000))
def test_units_agree(fx, fy, height, width):
    normalized = pixel_intrinsics(fx, fy, 0.5, 0.4, "normalized", (height, width))
    in_pixels = pixel_intrinsics(fx * width, fy * height, 0.5 * width, 0.4 * height, "pixels", (height, width))
    assert torch.allclose(normalized, in_pixels)


@pytest.mark.parametrize(
    ("numbers", "units", "message"),
    [
        ((1.2, 1.2, 0.5, 0.5), "pixels", "too small to be in pixels"),
        ((500.0, 500.0, 320.0, 240.0), "normalized", "too large"),
        ((-500.0, 500.0, 320.0, 240.0), "pixels", "positive focal"),
        ((float("nan"), 500.0, 320.0, 240.0), "pixels", "finite"),
    ],
)
def test_numbers_of_the_other_unit_are_noticed(numbers, units, message):
    with pytest.raises(ValueError, match=message):
        pixel_intrinsics(*numbers, units, (480, 640))
