"""Maps as images: colors say no more than the numbers do."""

import pytest
import torch

from diff3r_plugin.maps import LEAST_FACTOR, WeightMaps, error_images, heat, weight_maps


def test_heat_runs_from_black_to_white():
    colors = heat(torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0]]), 0.0, 1.0)
    assert colors[:, 0, 0].tolist() == colors[:, 0, 1].tolist() == [0, 0, 0]
    assert colors[:, 0, 3].tolist() == colors[:, 0, 4].tolist() == [1, 1, 1]
    assert colors[:, 0, 2].tolist() == pytest.approx([1, 0.5, 0])


def test_errors_have_one_scale_for_all():
    truth = torch.zeros(2, 3, 4, 4)
    images = truth.clone()
    images[0, :, 0, 0], images[1, 0, 1, 1] = 0.3, 0.45  # the mean over the channels counts
    drawn = error_images(images, truth)
    assert drawn[0, :, 0, 0].tolist() == pytest.approx([1, 1, 1])
    assert drawn[1, :, 1, 1].tolist() == pytest.approx([1, 0.5, 0])
    assert drawn[0, :, 1:].abs().max() == 0


def test_weights_that_hardly_differ_are_drawn_in_one_color():
    maps = WeightMaps.of(0.01 + 1e-9 * torch.rand(2, 5, 5))
    assert maps.images().flatten(2).std(-1).max() < 1e-3
    assert maps.white / maps.black == pytest.approx(LEAST_FACTOR, rel=1e-4)
    assert maps.black < maps.ranges()["least"] <= maps.ranges()["largest"] < maps.white


def test_weights_that_differ_take_all_colors():
    maps = WeightMaps.of(torch.tensor([[[0.001, 1.0]]]))
    assert maps.ranges() == pytest.approx({"least": 0.001, "largest": 1.0, "black": 0.001, "white": 1.0})
    assert maps.images()[0, :, 0].T.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_weight_maps_are_geometric_means_over_the_gaussians_of_a_pixel():
    means = torch.rand(2, 2 * 3 * 4 * 2, 1) + 0.1
    weights = {"means": means, "opacity": 0.5, "poses": torch.rand(2, 2, 1), "sh_dc": torch.rand(2, 7, 1)}
    maps = weight_maps(weights, 1, views=2, height=3, width=4)
    assert list(maps) == ["means"]  # one number for all, one a view, or none a pixel: no map
    pair = means[1].reshape(2, 3, 4, 2)
    torch.testing.assert_close(maps["means"], pair.prod(-1).sqrt())
