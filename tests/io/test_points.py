"""Gaussians from points."""

import pytest
import torch

from diff3r_plugin.io import PointCloud, gaussians_from_points


def test_sizes_are_distances_to_three_neighbors_and_colors_stay():
    positions = torch.rand(60, 3)
    colors = torch.rand(60, 3)
    scene = gaussians_from_points(PointCloud(positions, colors), sh_degree=2)
    distances = torch.cdist(positions.double(), positions.double()).sort(-1).values[:, 1:4].mean(-1)
    assert torch.allclose(scene.scales[0, :, 0].double(), distances, atol=1e-6)
    assert torch.equal(scene.scales[..., 0], scene.scales[..., 2])
    assert torch.allclose(scene.harmonics[0, :, :, 0] * 0.28209479 + 0.5, colors, atol=1e-6)
    assert scene.sh_degree == 2 and not scene.harmonics[..., 1:].any()
    assert (scene.opacities == 0.1).all()


def test_coinciding_points_get_a_size():
    positions = torch.cat([torch.zeros(5, 3), torch.rand(20, 3)])
    assert (gaussians_from_points(PointCloud(positions, torch.rand(25, 3))).scales > 0).all()


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="more than 3 points, got 3"):
        gaussians_from_points(PointCloud(torch.rand(3, 3), torch.rand(3, 3)))
    with pytest.raises(ValueError, match="all coincide"):
        gaussians_from_points(PointCloud(torch.zeros(9, 3), torch.rand(9, 3)))
