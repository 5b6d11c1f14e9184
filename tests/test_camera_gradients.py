"""Gradients that reach the cameras a scene is refined with, against central differences."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer
from diff3r_plugin.render import available_backends, render

GROUPS = ("means", "opacity", "sh_dc")
BACKEND = available_backends("cpu")[0]
CAMERAS = ("world_to_camera", "intrinsics")


def problem(**formation):
    """A scene whose images come from where it nearly is: residuals are small, so the Gauss-Newton form is exact."""
    truth, views = random_scene(gaussians=4, size=(8, 10), degree=1, seed=3)
    truth = Gaussians(truth.means, truth.covariances, truth.opacities * 0.8, truth.harmonics * 0.4)
    views = views.replace(**formation)
    views = views.replace(images=render(truth, views, "torch"))
    return Gaussians(truth.means + 4e-4, truth.covariances, truth.opacities, truth.harmonics), views


def layer(groups=GROUPS, backend=BACKEND):
    config = TTOConfig(
        groups=groups,
        backend=backend,
        inner_steps=10,
        inner_pcg_iterations=80,
        pcg_iterations=80,
        pcg_tolerance=1e-13,
        damping=1e-4,
        stationarity_tolerance=0.0,
    )
    return TTOLayer(config)


def loss_of(start, views, refine):
    """Something that depends on the refined scene and on its cameras."""
    weights = {group: 1.0 if group == "poses" else 0.05 for group in refine.groups}
    refined, info = refine(start, views, weights)
    loss = refined.means.square().sum() + refined.harmonics[..., 0].sin().sum() + refined.opacities.sum()
    if "poses" not in refine.groups:
        return loss
    return loss + (info.views.world_to_camera[..., :3, 3] * torch.arange(3)).sum()


def tracked(views, names=CAMERAS):
    return views.replace(**{name: getattr(views, name).clone().requires_grad_() for name in names})


def central_difference(loss, views, name, index, step=1e-5):
    values = []
    for sign in (1, -1):
        moved = getattr(views, name).clone()
        moved[index] += sign * step
        with torch.no_grad():
            values.append(loss(views.replace(**{name: moved})))
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("names", [CAMERAS, ("world_to_camera",)], ids=["poses and intrinsics", "poses"])
@pytest.mark.parametrize(
    ("groups", "formation"),
    [(GROUPS, {}), ((*GROUPS, "poses"), {}), (GROUPS, dict(antialiased=True, dilation=0.1))],
    ids=["poses stay", "poses move", "antialiased"],
)
def test_cameras_get_their_gradients(groups, formation, names):
    start, views = problem(**formation)
    cameras, refine = tracked(views, names), layer(groups)
    loss_of(start, cameras, refine).backward()
    entries = {"world_to_camera": [(0, 0, 0, 3), (0, 1, 2, 3)], "intrinsics": [(0, 0, 0, 0), (0, 1, 1, 2)]}
    for name in names:
        for index in entries[name]:
            wanted = central_difference(lambda v: loss_of(start, v, refine), views, name, index)
            torch.testing.assert_close(getattr(cameras, name).grad[index], wanted, rtol=1e-2, atol=2e-3)


def test_a_broken_camera_gives_the_others_their_gradient():
    start, views = problem()
    both = start.map(lambda t: torch.cat([t, t]))
    cameras = torch.cat([views.world_to_camera, torch.full_like(views.world_to_camera, torch.nan)]).requires_grad_()
    doubled = {name: torch.cat([getattr(views, name)] * 2) for name in ("images", "intrinsics", "near", "far")}
    loss_of(both, views.replace(world_to_camera=cameras, **doubled), layer()).backward()
    alone = tracked(views)
    loss_of(start, alone, layer()).backward()
    torch.testing.assert_close(cameras.grad[:1], alone.world_to_camera.grad, rtol=1e-4, atol=1e-6)
    assert torch.equal(cameras.grad[1], torch.zeros_like(cameras.grad[1]))


def test_cameras_without_a_graph_cost_nothing(monkeypatch):
    start, views = problem()
    monkeypatch.setattr("diff3r_plugin.backward.mode.images_with_camera_graph", pytest.fail)
    loss_of(start.map(lambda t: t.clone().requires_grad_()), views, layer()).backward()
