"""Poses and exposures among the unknowns of a refinement: found again, in the frame that was given, and written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import refine_files
import torch

from diff3r_plugin import Gaussians, TTOConfig, Views
from diff3r_plugin.coordinates.poses import PoseChart
from diff3r_plugin.groups.exposure import decode_exposure
from diff3r_plugin.io import read_posed_images
from diff3r_plugin.metrics import psnr
from diff3r_plugin.refine import RefineSettings, RoundSettings, refine, refine_scene
from diff3r_plugin.refine.cameras import Cameras, fitted, shown, small_motion, unexposed
from diff3r_plugin.render import render

BACKENDS = ("native", "torch")
WITH_VIEWS = TTOConfig(groups=(*TTOConfig().groups, "poses", "exposure"))


@pytest.fixture
def made() -> tuple[Gaussians, Views]:
    """A scene, and views of exactly that scene."""
    scene, views = refine_files.made()
    return scene, views.replace(images=render(scene, views).clamp(0, 1))


def moved(views: Views, size: float, seed: int = 0) -> Views:
    theta = size * torch.randn(1, views.num_views, 6, generator=torch.Generator().manual_seed(seed))
    return views.replace(world_to_camera=PoseChart(views.world_to_camera).decode(theta))


def exposed(views: Views, size: float, seed: int = 0) -> tuple[Views, torch.Tensor]:
    """The images as other exposures would have taken them: none above one, so that no number is lost."""
    theta = size * torch.randn(1, views.num_views, 6, generator=torch.Generator().manual_seed(seed))
    theta[..., :3] -= theta[..., :3].amax() + theta[..., 3:].abs().amax()
    theta[..., 3:] = theta[..., 3:].abs()
    images = decode_exposure(theta).apply(views.given_images)
    assert images.min() >= 0 and images.max() <= 1
    return views.replace(images=images), theta


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_view_finds_its_pose_and_exposure_again(made, backend):
    scene, views = made
    taken, theta = exposed(views, 0.1)
    off = moved(taken, 0.02)
    found, exposure = fitted(scene, off, torch.zeros(1, views.num_views, 6), ("poses", "exposure"), backend)
    before = small_motion(off.world_to_camera, views.world_to_camera).abs().max()
    after = small_motion(found.world_to_camera, views.world_to_camera).abs().max()
    assert before > 0.04 and after < 0.002
    assert torch.allclose(exposure, theta, atol=2e-3)
    assert psnr(taken.images, shown(scene, found, exposure, backend)).min() > 50


def test_only_what_moves_is_fitted(made):
    scene, views = made
    taken, _ = exposed(moved(views, 0.02), 0.1)
    nothing = torch.zeros(1, views.num_views, 6)
    same, none = fitted(scene, taken, nothing, ("means",), "auto")
    assert same is taken and none is nothing
    posed, none = fitted(scene, taken, nothing, ("poses",), "auto")
    assert not none.any() and not torch.equal(posed.world_to_camera, taken.world_to_camera)
    same, exposure = fitted(scene, taken, nothing, ("exposure",), "auto")
    assert exposure.any() and torch.allclose(same.world_to_camera, taken.world_to_camera, atol=1e-6)


def test_weights_hold_views_where_they_were_given_not_where_a_round_began(made):
    scene, views = made
    off = moved(views, 0.02)
    nothing = torch.zeros(1, views.num_views, 6)
    found = {}
    for weight in (1e-3, 1e9):
        held = {"poses": weight, "exposure": weight}
        there, _ = fitted(scene, views, nothing, ("poses",), "auto", given=off.world_to_camera, weights=held)
        found[weight] = small_motion(there.world_to_camera, off.world_to_camera).abs().max()
    assert found[1e-3] > 0.04 and found[1e9] < 1e-4


def test_a_step_that_does_not_lower_the_error_is_not_taken(made):
    """Nothing of the scene is in the image: no pose is better than any other."""
    scene, views = made
    black = views.replace(images=views.background[:, None, None].expand_as(views.given_images).clone())
    away = black.world_to_camera.clone()
    away[..., 2, 3] = -1e3
    given = black.replace(world_to_camera=away)
    found, exposure = fitted(scene, given, torch.zeros(1, views.num_views, 6), ("poses",), "auto")
    assert torch.allclose(found.world_to_camera, away) and not exposure.any()


def test_an_image_without_its_exposure_is_what_the_scene_shows(made):
    _, views = made
    taken, theta = exposed(views, 0.1)
    assert torch.allclose(unexposed(taken, theta).images, views.images, atol=1e-5)
    assert unexposed(taken, torch.zeros_like(theta)) is taken


def test_what_all_cameras_share_is_taken_out_and_what_each_has_alone_stays():
    given = PoseChart(torch.eye(4).repeat(1, 5, 1, 1)).decode(
        torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))
    )[0]
    world = PoseChart(torch.eye(4)[None, None]).decode(torch.tensor([[[0.1, -0.2, 0.3, 0.05, 0.02, -0.04]]]))[0, 0]
    shared = torch.linalg.inv(given)
    shared[:, :3, 3] *= 1.1
    common = torch.linalg.inv(world @ shared)
    balanced = Cameras(common, torch.full((5, 6), 0.2)).balanced(range(5), given)
    assert torch.allclose(balanced.world_to_camera, given, atol=1e-5)
    assert torch.allclose(balanced.exposure, torch.zeros(5, 6), atol=1e-6)
    own = PoseChart(given[None]).decode(0.01 * torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(1)))[0]
    kept = Cameras(own, torch.zeros(5, 6)).balanced(range(5), given).world_to_camera
    assert (kept - own).abs().max() < 0.03 and (kept - given).abs().max() > 0.005


def test_a_refinement_with_wrong_cameras_nears_one_with_right_ones(made):
    _, views = made
    start, _ = refine_files.made()
    start = Gaussians(start.means + 0.02, start.covariances, start.opacities, start.harmonics)
    taken, _ = exposed(views, 0.1)
    wrong = moved(taken, 0.01)
    nothing = torch.zeros(1, views.num_views, 6)

    def score(found) -> float:
        """Against views of the truth, each fitted first: the scene may stand a little elsewhere, and be darker."""
        placed, exposure = fitted(found, views, nothing, ("poses", "exposure"), "auto")
        return float(psnr(views.images, shown(found, placed, exposure, "auto")).mean())

    scores = {}
    for name, given, tto in (("right", views, TTOConfig()), ("held", wrong, TTOConfig()), ("found", wrong, WITH_VIEWS)):
        result = refine_scene(start, given, RoundSettings(views_per_round=3, rounds=30, tto=tto))
        scores[name] = score(result.scene)
        assert (result.world_to_camera is None) == (result.exposure is None) == (name != "found")
    assert scores["found"] > scores["held"] + 3
    assert result.exposure.gain.log().mean().abs() < 1e-5, "on the mean, no exposure"


@pytest.fixture
def settings(tmp_path) -> RefineSettings:
    scene, cameras = refine_files.write_scene(tmp_path / "data", finished=True)
    content = json.loads(cameras.read_text())
    for number, frame in enumerate(content["frames"]):
        if number % 3:
            frame["transform_matrix"][0][3] += 0.01 * (number - 2)
    cameras.write_text(json.dumps(content))
    return RefineSettings(
        scene, str(cameras), tmp_path / "out", hold_out="0,3", views_per_round=2, rounds=6, validation=1, tto=WITH_VIEWS
    )


def test_found_cameras_are_written_and_read_again(settings):
    result = refine(settings)
    found = read_posed_images(str(settings.out / "cameras.json"))
    given = read_posed_images(settings.cameras).subset([1, 2, 4, 5])
    assert [path.name for path in found.sources] == [path.name for path in given.sources]
    assert torch.allclose(found.intrinsics, given.intrinsics)
    assert 1e-4 < (found.world_to_camera - given.world_to_camera).abs().max() < 0.1
    assert result.metrics["after"]["context"]["psnr"] > 50, "each view is fitted before it is scored"
    frames = json.loads((settings.out / "cameras.json").read_text())["frames"]
    assert all(len(frame["exposure_gain"]) == len(frame["exposure_bias"]) == 3 for frame in frames)


def test_stopped_and_resumed_it_ends_with_the_same_cameras(settings):
    whole = refine(settings)
    parts = replace(settings, out=settings.out.with_name("parts"))
    refine(replace(parts, rounds=3))
    again = refine(parts, resume=True)
    assert again.metrics["views"] == whole.metrics["views"]
    assert (parts.out / "cameras.json").read_bytes() == (settings.out / "cameras.json").read_bytes()
    assert all(torch.equal(a, b) for a, b in zip(again.scene.tensors(), whole.scene.tensors(), strict=True))


def test_a_refinement_of_views_alone_is_refused():
    with pytest.raises(ValueError, match=r"groups=poses,exposure moves views alone.*means, covariance"):
        RoundSettings(tto=TTOConfig(groups=("poses", "exposure")))
