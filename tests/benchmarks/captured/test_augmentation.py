"""Augmented photographs: cameras follow the pixels."""

import numpy as np
import pytest
import torch

from benchmarks.captured.augmentation import Augmentation, crop, jitter

HEIGHT, WIDTH, FOCAL = 144, 200, (170.0, 180.0)


def painted(height, width, focal, middle=(0.5, 0.5)):
    """A picture whose color is a smooth function of the ray through each pixel, and the rays."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack(
        [(x - middle[0] * width) / focal[0], (y - middle[1] * height) / focal[1], torch.ones_like(x)], -1
    )
    return color_of(rays), rays


def color_of(rays):
    direction = rays / rays.norm(dim=-1, keepdim=True)
    return (0.5 + 0.4 * torch.sin(direction * torch.tensor([5.0, 6.0, 4.0]))).permute(2, 0, 1)


@pytest.mark.parametrize("side, place", [(144.0, (0.0, 0.0)), (100.0, (35.0, 15.0)), (90.0, (-50.0, -20.0))])
def test_what_a_crop_shows_is_what_its_camera_sees(side, place):
    image, _ = painted(HEIGHT, WIDTH, FOCAL)
    cropped, focal, rotation = crop(image[None], FOCAL, side, place, 64)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1, abs=1e-5)
    _, rays = painted(64, 64, (64 * focal[0], 64 * focal[1]))
    expected = color_of(rays @ rotation)  # from the new camera's axes to the old one's
    torch.testing.assert_close(cropped[0], expected, atol=0.01, rtol=0)
    if place != (0.0, 0.0):
        assert float((cropped[0] - color_of(rays)).abs().max()) > 0.05, (
            "without the rotation it would be another picture"
        )
        toward = rotation.mT @ torch.tensor([0.0, 0, 1])
        assert float(toward[0]) * place[0] > 0 and float(toward[1]) * place[1] > 0


def test_a_crop_that_would_leave_the_image_is_drawn_back():
    image, _ = painted(HEIGHT, WIDTH, FOCAL)
    cropped, focal, rotation = crop(image[None], FOCAL, 144.0, (500.0, 300.0), 64)
    _, rays = painted(64, 64, (64 * focal[0], 64 * focal[1]))
    torch.testing.assert_close(cropped[0], color_of(rays @ rotation), atol=0.01, rtol=0)


def test_colors_change_alike_in_all_frames():
    frame = torch.rand(1, 3, 8, 8)
    images = jitter(frame.expand(3, -1, -1, -1), np.random.default_rng(0), Augmentation())
    assert bool((images == images[:1]).all()) and not bool(torch.allclose(images[:1], frame, atol=0.01))
    same = jitter(frame, np.random.default_rng(0), Augmentation(color=0, tint=0))
    torch.testing.assert_close(same, frame)


@pytest.mark.parametrize("wrong", [{"zoom": 0.0}, {"whole": 1.5}, {"scale": 0.5}, {"color": 1.0}, {"tint": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
