"""What the other views say about a view."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin.heads.cross_view import cross_view_maps, render_from_others
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
