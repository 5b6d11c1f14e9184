"""Rotations as quaternions."""

import torch

from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.io.quaternions import quaternions


def test_quaternions_of_every_quadrant():
    quats = torch.nn.functional.normalize(torch.randn(200, 4, dtype=torch.float64), dim=-1)
    quats[:4] = torch.eye(4, dtype=torch.float64)
    again = quaternions(rotation_matrices(quats))
    assert torch.allclose(rotation_matrices(again), rotation_matrices(quats), atol=1e-12)
    assert torch.allclose(again.norm(dim=-1), torch.ones(200, dtype=torch.float64))
