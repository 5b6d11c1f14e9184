"""Gaussians, Views, weights and settings say what is wrong with what they are given."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, ProximalWeights, TTOConfig, Views
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import rotation_matrices


def tensors(**changes):
    values = dict(
        means=torch.zeros(2, 5, 3),
        covariances=torch.eye(3).expand(2, 5, 3, 3),
        opacities=torch.zeros(2, 5),
        harmonics=torch.zeros(2, 5, 3, 4),
    )
    return {**values, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(means=torch.zeros(5, 3)), r"means must have shape \[B, N, 3\], got \[5, 3\]"),
        (dict(opacities=torch.zeros(2, 4)), r"opacities must have shape \[2, 5\].*got \[2, 4\]"),
        (dict(harmonics=torch.zeros(2, 5, 3, 7)), r"K = \(degree \+ 1\)².*got \[2, 5, 3, 7\]"),
        (dict(covariances=None), "either covariances, or scales together with quats"),
        (dict(scales=torch.ones(2, 5, 3), quats=torch.ones(2, 5, 4)), "either covariances, or scales"),
        (dict(covariances=None, scales=torch.ones(2, 5, 3)), "either covariances, or scales"),
    ],
)
def test_gaussians_name_the_wrong_shape(changes, message):
    with pytest.raises(ValueError, match=message):
        Gaussians(**tensors(**changes))


def test_gaussians_need_all_of_their_tensors():
    with pytest.raises(TypeError, match="'opacities'"):
        Gaussians(torch.zeros(2, 5, 3), torch.eye(3).expand(2, 5, 3, 3))


def test_a_scene_of_scales_has_the_covariances_of_its_axes():
    given = tensors(covariances=None)
    scales = torch.tensor([1.0, 2.0, 3.0]).expand(2, 5, 3)
    about_z = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5]).expand(2, 5, 4)  # 90°, wxyz: x and y change places
    scene = Gaussians.from_scales(given["means"], scales, about_z, given["opacities"], given["harmonics"])
    expected = torch.diag(torch.tensor([4.0, 1.0, 9.0])).expand(2, 5, 3, 3)
    torch.testing.assert_close(scene.with_covariances().covariances, expected)


def test_gaussians_and_views_equal_only_themselves():
    scene, views = random_scene()
    assert scene == scene and scene != scene.map(torch.clone) and len({scene, scene.map(torch.clone)}) == 2
    assert views == views and views != views.map(torch.clone)


def test_moving_keeps_the_graph_and_detach_leaves_it():
    views = random_scene()[1]
    poses, images = (t.clone().requires_grad_() for t in (views.world_to_camera, views.images))
    views = views.replace(world_to_camera=poses, images=images)
    moved = views.to(torch.float32)
    assert moved.dtype == moved.near.dtype == moved.background.dtype == torch.float32
    (moved.world_to_camera.sum() + moved.images.sum()).backward()
    assert (poses.grad == 1).all() and (images.grad == 1).all()
    alone = views.detach()
    assert not alone.world_to_camera.requires_grad and not alone.images.requires_grad
    assert torch.equal(alone.images, images) and poses.requires_grad


def test_rotations_are_rotations():
    quats = torch.randn(50, 4, dtype=torch.float64)
    R = rotation_matrices(quats)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50, dtype=torch.float64))
    turn = rotation_matrices(torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5]))  # 90° about z, wxyz
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(rotation_matrices(torch.zeros(4)), torch.eye(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(world_to_camera=torch.eye(4)), r"\[B, V, 4, 4\], got \[4, 4\]"),
        (dict(intrinsics=torch.eye(3).expand(1, 3, 3, 3)), r"intrinsics must have shape \[1, 2, 3, 3\]"),
        (dict(images=torch.zeros(1, 2, 4, 8, 8)), r"images must have shape \[1, 2, 3, H, W\]"),
        (dict(images=None), "image_size"),
        (dict(image_size=(4, 4)), "disagrees"),
        (dict(near=torch.zeros(3)), r"near must be a number or have shape \[1, 2\]"),
        (dict(background=torch.zeros(4)), "three numbers"),
        (dict(dilation=-0.1), r"dilation must be a finite number >= 0 .*got -0.1"),
        (dict(dilation=float("nan")), "dilation must be a finite number"),
    ],
)
def test_views_name_what_does_not_fit(changes, message):
    values = dict(
        images=torch.zeros(1, 2, 3, 8, 8),
        world_to_camera=torch.eye(4).expand(1, 2, 4, 4),
        intrinsics=torch.eye(3).expand(1, 2, 3, 3),
    )
    with pytest.raises(ValueError, match=message):
        Views(**{**values, **changes})


def test_weights_are_flattened_in_the_order_of_theta():
    scene, views = random_scene(gaussians=3)
    coordinates = Coordinates(scene, views, ("opacity", "means", "poses"))
    weights = ProximalWeights(means=torch.arange(1.0, 4.0)[None, :, None], opacity=9.0, poses=5.0)
    flat = weights.flatten(coordinates, scene.means)
    assert flat[0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9, 9, *[5] * 12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(inner_solver="newton"), r"inner_solver='newton' is not one of gauss_newton, adam"),
        (dict(backward_mode="magic"), "implicit, stepwise, unroll, truncated, first_order"),
        (dict(inner_steps=-1), "inner_steps=-1 must be a whole number of at least 0"),
        (dict(pcg_iterations=2.5), "pcg_iterations=2.5"),
        (dict(pcg_tolerance=1.5), r"\[0, 1\)"),
        (dict(groups=()), "groups is empty"),
        (dict(groups=("color",)), "'color'"),
        (dict(learning_rates={"means": -1}), "must be positive"),
        (dict(damping=0), "damping=0 must be positive"),
    ],
)
def test_settings_are_checked_where_they_are_made(changes, message):
    with pytest.raises(ValueError, match=message):
        TTOConfig(**changes)


def test_views_keep_their_image_formation():
    views = Views(torch.eye(4)[None, None], torch.eye(3)[None, None], image_size=(2, 2), antialiased=True, dilation=1)
    for same in (views.detach(), views.to(torch.float64), views.replace(near=0.5)):
        assert same.antialiased is True and same.dilation == 1.0
    for wrong in (dict(antialiased=1), dict(dilation="0.3"), dict(dilation=True)):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            views.replace(**wrong)


def test_gaussians_are_replaced_field_by_field():
    scene = Gaussians(**tensors())
    dimmer = scene.replace(opacities=0.5 * scene.opacities)
    assert dimmer.means is scene.means and torch.equal(dimmer.opacities, 0.5 * scene.opacities)
    with pytest.raises(ValueError, match="opacities must have shape"):
        scene.replace(opacities=scene.opacities[:, :1])
