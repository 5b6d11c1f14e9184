"""The one conversion of rotations that SPFSplat's pose head needs."""

import torch
from torch.nn.functional import normalize


def rotation_6d_to_matrix(d6: torch.Tensor) -> torch.Tensor:
    """Two vectors ``[..., 6]`` to a rotation ``[..., 3, 3]``: their orthonormal basis as rows (Zhou et al. 2019)."""
    first = normalize(d6[..., :3], dim=-1)
    second = d6[..., 3:] - (first * d6[..., 3:]).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -2)
