"""The conversions of rotations that SPFSplat's pose head and VicaSplat need."""

import torch
from torch.nn.functional import normalize


def rotation_6d_to_matrix(d6: torch.Tensor) -> torch.Tensor:
    """Two vectors ``[..., 6]`` to a rotation ``[..., 3, 3]``: their orthonormal basis as rows (Zhou et al. 2019)."""
    first = normalize(d6[..., :3], dim=-1)
    second = d6[..., 3:] - (first * d6[..., 3:]).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -2)


def matrix_to_quaternion(matrix: torch.Tensor) -> torch.Tensor:
    """Rotations ``[..., 3, 3]`` to unit quaternions wxyz ``[..., 4]``: an eigenvector of Bar-Itzhack's matrix."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = (
        (a + e + i, h - f, c - g, d - b),
        (h - f, a - e - i, b + d, c + g),
        (c - g, b + d, e - a - i, f + h),
        (d - b, c + g, f + h, i - a - e),
    )
    symmetric = torch.stack([torch.stack(row, -1) for row in rows], -2)
    quaternion = torch.linalg.eigh(symmetric).eigenvectors[..., -1]
    return quaternion * torch.where(quaternion[..., :1] < 0, -1.0, 1.0)
