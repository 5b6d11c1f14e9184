"""Scenes and images that a test writes."""

import struct

import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.plugin.scoring.artifacts import save_ply


def test_ply_holds_the_scene_as_viewers_read_it(tmp_path):
    rotation = rotation_matrices(torch.randn(1, 5, 4))
    sizes = 0.1 + torch.rand(1, 5, 3)
    factor = rotation * sizes[..., None, :]
    scene = Gaussians(torch.randn(1, 5, 3), factor @ factor.mT, torch.rand(1, 5), torch.randn(1, 5, 3, 4))
    save_ply(scene, 0, tmp_path / "a" / "scene.ply")
    header, body = (tmp_path / "a" / "scene.ply").read_bytes().split(b"end_header\n", 1)
    names = [line.split()[-1].decode() for line in header.splitlines() if line.startswith(b"property")]
    assert b"element vertex 5" in header and len(body) == 5 * 4 * len(names)
    table = torch.tensor(struct.unpack(f"<{5 * len(names)}f", body)).reshape(5, -1)
    column = {name: table[:, index] for index, name in enumerate(names)}
    stack = lambda prefix, keys: torch.stack([column[f"{prefix}{k}"] for k in keys], -1)  # noqa: E731
    assert torch.allclose(stack("", "xyz"), scene.means[0])
    assert torch.allclose(column["opacity"].sigmoid(), scene.opacities[0], atol=1e-5)
    assert torch.allclose(stack("f_dc_", range(3)), scene.harmonics[0, :, :, 0])
    assert torch.allclose(stack("f_rest_", range(9)), scene.harmonics[0, :, :, 1:].flatten(1))
    axes = rotation_matrices(stack("rot_", range(4))) * stack("scale_", range(3)).exp()[:, None, :]
    assert torch.allclose(axes @ axes.mT, scene.covariances[0], atol=1e-4)
