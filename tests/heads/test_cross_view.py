"""What the other views say about a view."""

import math

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.heads.cross_view import cross_view_maps, depth_disagreement, render_from_others
from diff3r_plugin.render import render

H, W, V = 6, 8, 3


def scene(views=V):
    return random_scene(batch=2, gaussians=views * H * W, views=views, size=(H, W))


def part(gaussians, view, views=V):
    """The Gaussians of all views but one."""
    kept = [i for i in range(gaussians.num_gaussians) if i // (H * W) != view]
    return gaussians.with_covariances().map(lambda t: t[:, kept])


def test_each_view_is_rendered_without_its_own_gaussians():
    gaussians, views = scene()
    color, opacity = render_from_others(gaussians, views, "torch")
    for view in range(V):
        expected = render(part(gaussians, view), views.replace(images=None, background=(0.0, 0, 0)), "torch")[:, view]
        torch.testing.assert_close(color[:, view], expected, atol=1e-5, rtol=1e-4)
    assert ((opacity >= 0) & (opacity <= 1)).all() and opacity.max() > 0.1


def test_a_views_own_gaussians_do_not_matter():
    gaussians, views = scene()
    before, _ = render_from_others(gaussians, views)
    moved = gaussians.map(lambda t: t.clone())
    moved.means[:, : H * W] += 0.3
    after, _ = render_from_others(moved, views)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert (after[:, 1:] - before[:, 1:]).abs().max() > 1e-3


def test_maps_are_zero_where_the_others_predict_nothing():
    gaussians, views = scene()
    invisible = gaussians.map(lambda t: t.clone())
    invisible.opacities.zero_()
    assert cross_view_maps(invisible, views).abs().max() < 1e-6


def test_one_view_has_nothing_to_be_compared_with():
    gaussians, views = scene(views=1)
    assert cross_view_maps(gaussians, views).abs().max() == 0
    with pytest.raises(ValueError, match="there is 1 view, and at least 2"):
        render_from_others(gaussians, views)


def test_gaussians_must_belong_to_views():
    gaussians, views = scene()
    with pytest.raises(ValueError, match="got 143 for 3 views"):
        render_from_others(gaussians.map(lambda t: t[:, :-1]), views)
    with pytest.raises(ValueError, match="needs their images"):
        cross_view_maps(gaussians, views.replace(images=None))


def plane(depths, views):
    """One Gaussian a pixel, on planes at a depth for each view, all cameras at the origin."""
    h, w = views.image_size
    v, u = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    K = views.intrinsics[0, 0]
    rays = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], -1).reshape(1, -1, 3)
    means = torch.cat([depth * rays for depth in depths], 1)
    sizes = torch.cat([torch.full((1, h * w), 0.6 * depth / float(K[0, 0])) for depth in depths], 1)
    covariances = sizes.square()[..., None, None] * torch.eye(3)
    return Gaussians(means, covariances, torch.full(sizes.shape, 0.99), torch.zeros(*sizes.shape, 3, 1))


def at_one_place(views=2):
    K = torch.tensor([[8.0, 0, 4], [0, 8, 3], [0, 0, 1]]).expand(1, views, 3, 3)
    return Views(torch.eye(4).expand(1, views, 4, 4), K, torch.zeros(1, views, 3, H, W))


def test_depths_disagree_by_the_logarithm_of_their_ratio(backend):
    views = at_one_place()
    found = depth_disagreement(plane((2.0, 3.0), views), views, backend)
    inside = found[0, :, 0, 2:-2, 2:-2]
    expected = math.log(1.5)
    torch.testing.assert_close(inside[0], torch.full_like(inside[0], expected), atol=0.01, rtol=0)
    torch.testing.assert_close(inside[1], torch.full_like(inside[1], -expected), atol=0.01, rtol=0)
    assert depth_disagreement(plane((2.0, 2.0), views), views, backend).abs().max() < 0.01


def test_depths_agree_where_the_others_predict_nothing():
    views = at_one_place()
    scene = plane((2.0, 3.0), views)
    scene.opacities[:, H * W :] = 0
    found = depth_disagreement(scene, views)
    assert found[:, 0].abs().max() == 0 and found[:, 1].abs().max() > 0.3
    gaussians, alone = random_scene(batch=2, gaussians=H * W, views=1, size=(H, W))
    assert depth_disagreement(gaussians, alone).abs().max() == 0


def test_depth_is_of_pixels():
    gaussians, views = scene()
    with pytest.raises(ValueError, match="got 141 for 3 views of 6x8"):
        depth_disagreement(gaussians.map(lambda t: t[:, :-3]), views)
