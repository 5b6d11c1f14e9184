"""From covariances to scales and quaternions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians


def scales_and_quats(gaussians: Gaussians) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"]]:
    """Standard deviations along the principal axes and the axes' unit wxyz quaternions, of one scene.

    Those of the scene where it has them (quaternions normalized; a zero one becomes the identity).

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.io.quaternions import scales_and_quats
        >>> covariances = torch.diag(torch.tensor([4.0, 1.0, 9.0]))[None, None]
        >>> g = Gaussians(torch.zeros(1, 1, 3), covariances, torch.ones(1, 1), torch.zeros(1, 1, 3, 1))
        >>> scales_and_quats(g)[0]
        tensor([[1., 2., 3.]])
    """
    if gaussians.scales is not None and gaussians.quats is not None:
        quats = gaussians.quats[0]
        norm = quats.norm(dim=-1, keepdim=True)
        identity = torch.zeros_like(quats)
        identity[..., 0] = 1
        return gaussians.scales[0], torch.where(
            norm > 0, quats / norm.clamp_min(torch.finfo(quats.dtype).tiny), identity
        )
    assert gaussians.covariances is not None
    variances, axes = torch.linalg.eigh(gaussians.covariances[0])
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    return variances.clamp_min(0).sqrt(), quaternions(axes)


def quaternions(rotations: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 4"]:
    """Unit wxyz quaternions of rotation matrices (the largest component, found first, keeps the division safe)."""
    r = rotations
    trace = r.diagonal(dim1=-2, dim2=-1)
    x, y, z = trace.unbind(-1)
    squares = torch.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], -1).clamp_min(0)
    candidates = torch.stack(
        [
            torch.stack([squares[:, 0], r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], -1),
            torch.stack([r[:, 2, 1] - r[:, 1, 2], squares[:, 1], r[:, 1, 0] + r[:, 0, 1], r[:, 0, 2] + r[:, 2, 0]], -1),
            torch.stack([r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] + r[:, 0, 1], squares[:, 2], r[:, 2, 1] + r[:, 1, 2]], -1),
            torch.stack([r[:, 1, 0] - r[:, 0, 1], r[:, 0, 2] + r[:, 2, 0], r[:, 2, 1] + r[:, 1, 2], squares[:, 3]], -1),
        ],
        1,
    )
    best = squares.argmax(-1)
    chosen = candidates[torch.arange(len(best), device=best.device), best]
    return chosen / chosen.norm(dim=-1, keepdim=True)
