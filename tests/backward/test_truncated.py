"""Gradients through the last steps only."""

import pytest
import torch
from scenes import refinable_scene

from diff3r_plugin import GaussNewton, Truncated, TTOLayer, Unroll


def gradient(backward, steps=3):
    scene, views = refinable_scene(gaussians=6, size=(7, 8))
    harmonics = scene.harmonics.clone().requires_grad_()
    leaf = type(scene)(scene.means, scene.covariances, scene.opacities, harmonics)
    weights = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    layer = TTOLayer(solver=GaussNewton(steps=steps), backward=backward, groups=("sh_dc", "opacity"), backend="torch")
    refined, _ = layer(leaf, views, {"sh_dc": weights, "opacity": 0.1})
    return torch.autograd.grad(refined.harmonics.square().sum(), [harmonics, weights])


@pytest.mark.parametrize("steps", [3, 5])
def test_all_steps_are_the_unrolled_run(steps):
    for found, expected in zip(gradient(Truncated(steps)), gradient(Unroll()), strict=True):
        torch.testing.assert_close(found, expected)


def test_fewer_steps_forget_where_they_started():
    truncated, unrolled = gradient(Truncated(1)), gradient(Unroll())
    assert (truncated[0] - unrolled[0]).norm() > 0.01 * unrolled[0].norm()
    one = gradient(Truncated(1), steps=1)
    torch.testing.assert_close(one[0], gradient(Unroll(), steps=1)[0])
