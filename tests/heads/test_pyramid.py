"""The head for Gaussians on grids of several resolutions."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import UncertaintyHead
from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.heads.pyramid import PyramidHead, at_resolution

H, W, V = 8, 12, 2
GRIDS = (PixelGrid(4), PixelGrid(2, per_pixel=3), PixelGrid())
COUNTS = [V * 2 * 3, V * 4 * 6 * 3, V * 8 * 12]


def scene_of(grids):
    count = sum(grid.count(V, H, W) for grid in grids)
    return random_scene(batch=2, gaussians=count, views=V, size=(H, W), dtype=torch.float32)


def test_it_starts_at_the_given_weights_on_every_grid():
    scene, views = scene_of(GRIDS)
    start = {"means": 0.5, "opacity": 2.0, "poses": 7.0}
    features = torch.randn(2, V, 3, 5, 5)
    weights = PyramidHead(tuple(start), GRIDS, feature_channels=3, initial_weights=start)(scene, views, features)
    assert weights.means.shape == (2, sum(COUNTS), 1) and weights.poses.shape == (2, V, 1)
    for group, value in start.items():
        torch.testing.assert_close(getattr(weights, group), torch.full_like(getattr(weights, group), value))


def test_each_grid_has_weights_of_its_own():
    scene, views = scene_of(GRIDS)
    head = PyramidHead(("means",), GRIDS)
    head.heads[1].log_base.data.fill_(1.0)
    parts = head(scene, views).means[0, :, 0].split(COUNTS)
    assert parts[1].unique().item() == pytest.approx(torch.e) and parts[0].unique().item() == pytest.approx(0.01)


def test_each_head_sees_the_gaussians_of_its_own_grid():
    scene, views = scene_of(GRIDS)
    head, seen = PyramidHead(("means",), GRIDS), []
    for part in head.heads:
        part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].means))
    head(scene, views)
    assert all(torch.equal(s, part) for s, part in zip(seen, scene.means.split(COUNTS, 1), strict=True))


def test_one_grid_of_full_resolution_is_the_ordinary_head():
    scene, views = scene_of((PixelGrid(),))
    pyramid, plain = PyramidHead(("means",), (PixelGrid(),)), UncertaintyHead(("means",))
    torch.nn.init.normal_(pyramid.heads[0].layers[-1].weight)
    plain.load_state_dict(pyramid.heads[0].state_dict())
    torch.testing.assert_close(pyramid(scene, views).means, plain(scene, views).means)


def test_a_coarse_grid_sees_where_the_whole_scene_is_wrong():
    scene, views = scene_of(GRIDS)
    head = PyramidHead(("means",), GRIDS)
    torch.nn.init.normal_(head.heads[0].layers[-1].weight)
    before = head(scene, views).means[0, : COUNTS[0], 0].reshape(V, 2, 3)
    images = views.images.clone()
    images[0, 1, :, :4, :4] = 1 - images[0, 1, :, :4, :4]
    changed = (head(scene, views.replace(images=images)).means[0, : COUNTS[0], 0].reshape(V, 2, 3) - before).abs()
    assert changed[1, 0, 0] > 1e-6 and changed[0].max() < 1e-7


def test_views_of_a_coarse_grid_are_the_same_cameras():
    _, views = scene_of(GRIDS)
    coarse = at_resolution(views, 4)
    assert coarse.image_size == (2, 3)
    torch.testing.assert_close(coarse.images[0, 0, :, 1, 2], views.images[0, 0, :, 4:, 8:].mean((-2, -1)))
    torch.testing.assert_close(coarse.intrinsics[..., :2, :], views.intrinsics[..., :2, :] / 4)
    torch.testing.assert_close(coarse.intrinsics[..., 2, :], views.intrinsics[..., 2, :])


def test_what_does_not_fit_is_said():
    scene, views = scene_of(GRIDS)
    with pytest.raises(ValueError, match=r"strides 2 over 2 views of 8x12 hold 48 Gaussians, got 348"):
        PyramidHead(("means",), (PixelGrid(2),))(scene, views)
    with pytest.raises(ValueError, match="do not divide by the stride 5"):
        at_resolution(views, 5)
    with pytest.raises(ValueError, match="at least one grid"):
        PyramidHead(("means",), ())
    with pytest.raises(ValueError, match="at least 1, got"):
        PixelGrid(0)
