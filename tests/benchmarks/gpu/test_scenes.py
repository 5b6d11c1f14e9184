"""The scenes of the device's tests keep clear of thresholds, in numbers that float32 holds."""

import dataclasses

import pytest
import torch

from benchmarks.gpu import scenes
from benchmarks.gpu.scenes import CLEAR, clear_scene, float32_scene, float32_tangent, threshold_distance
from diff3r_plugin.render import torch_backend
from diff3r_plugin.render.semantics import ALPHA_SKIP

SMALL = dict(gaussians=6, views=2, size=(11, 18), degree=1)


def test_clear_scenes_are_clear_and_others_are_found_out(monkeypatch):
    scene, views = clear_scene(**SMALL)
    assert threshold_distance(scene, views) > CLEAR
    splats = torch_backend.project(scene, views)
    pixel = torch.tensor([[7.5, 5.5]], dtype=torch.float64)
    _, alphas, _ = torch_backend.blending_weights(splats, pixel)
    front = alphas[0, 0, 0]
    index = int(front.argmax())
    order = torch_backend.project_unsorted(scene, views)[1][0, 0].argsort()
    opacities = scene.opacities.clone()
    opacities[0, order[index]] *= ALPHA_SKIP * (1 + 1e-6) / front[index]  # this pixel's alpha now is 1/255, almost
    assert threshold_distance(dataclasses.replace(scene, opacities=opacities), views) < 1e-5
    monkeypatch.setattr(scenes, "CLEAR", 10.0)
    with pytest.raises(RuntimeError, match="clear of the thresholds"):
        clear_scene(gaussians=2, size=(4, 4))


def test_scenes_are_float32_numbers():
    scene, views = float32_scene()
    for tensor in (*scene.tensors(), *float32_tangent(scene).tensors(), views.world_to_camera, views.intrinsics):
        assert tensor.dtype == torch.float64 and torch.equal(tensor.float().double(), tensor)
