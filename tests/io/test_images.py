"""Images from files."""

import io_files
import numpy as np
import pytest
import torch
from PIL import Image

from diff3r_plugin.io import FileError, image_size, read_image, write_image


def test_pixels_come_back(tmp_path):
    given = (torch.rand(3, 5, 7) * 255).round() / 255
    write_image(tmp_path / "deep" / "image.png", given)
    assert torch.equal(read_image(tmp_path / "deep" / "image.png"), given)
    assert image_size(tmp_path / "deep" / "image.png") == (5, 7)


def test_halving_averages_blocks_of_four(tmp_path):
    given = (torch.rand(3, 8, 12) * 255).round() / 255
    write_image(tmp_path / "image.png", given)
    small = read_image(tmp_path / "image.png", (4, 6))
    assert torch.allclose(small, torch.nn.functional.avg_pool2d(given, 2), atol=1.01 / 255)


def test_transparent_pixels_show_the_background(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (255, 0, 0, 255)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "image.png")
    shown = read_image(tmp_path / "image.png", background=(0.0, 1.0, 0.0))
    assert shown[:, 0, 0].tolist() == [1, 0, 0] and shown[:, 3, 3].tolist() == [0, 1, 0]


def test_more_than_eight_bits_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "image.png")
    with pytest.raises(FileError, match="eight bits"):
        read_image(tmp_path / "image.png")


def test_errors_name_the_image():
    with pytest.raises(FileError, match="frame 3: it cannot be read as an image"):
        read_image(io_files.image_bytes(0)[:60], name="frame 3")
