"""What the viewer is given is the scene, in the frame of its first context camera."""

import base64
import gzip

import numpy as np
import pytest
import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.render import render
from diff3r_plugin.report.splat_data import BYTES, SplatData, packed

from .conftest import SIZE, saved_scene


def unpacked(text: str, unit: float) -> Gaussians:
    """The scene in the camera's frame, as the viewer reads it."""
    raw = gzip.decompress(base64.b64decode(text))
    count = len(raw) // BYTES
    part = lambda kind, start, width: torch.from_numpy(  # noqa: E731
        np.frombuffer(raw, kind, count * width, start * count).reshape(count, width).astype(np.float32)
    )
    means, scales, quats, drawn = part("<f2", 0, 3), part("<f2", 6, 3), part("<i2", 12, 4), part("u1", 20, 4) / 255
    axes = rotation_matrices(quats / 32767) * (scales * unit)[:, None, :]
    harmonics = (drawn[None, :, :3, None] - 0.5) / 0.28209479177387814
    return Gaussians(means[None] * unit, (axes @ axes.mT)[None], drawn[None, :, 3], harmonics)


def test_it_renders_like_the_scene_from_its_camera():
    scene = saved_scene("a", 0)
    pose = scene.context.world_to_camera[0, 0].double()
    again = unpacked(packed(scene.gaussians, pose, 1.7), 1.7)
    camera = scene.context.replace(images=None)
    expected = render(scene.gaussians, camera)[0, 0]
    at_home = camera.replace(world_to_camera=torch.eye(4).expand(1, 2, 4, 4))
    assert (render(again, at_home)[0, 0] - expected).abs().max() < 0.02  # 8-bit colors, 11-bit places


def test_the_unit_is_the_median_depth_and_the_camera_is_told():
    scene = saved_scene("a", 1)
    data = SplatData.of(scene.gaussians, scene.gaussians, scene.context)
    assert (data.count, data.width, data.height) == (scene.gaussians.num_gaussians, SIZE, SIZE)
    assert data.focal == (30.0, 30.0) and data.center == (SIZE / 2, SIZE / 2 - 1)
    assert data.before == data.after
    assert unpacked(data.before, 1.0).means[0, :, 2].median() == pytest.approx(1.0, abs=2e-3)
