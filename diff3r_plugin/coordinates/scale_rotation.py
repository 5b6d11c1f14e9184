"""The chart of covariances that hosts hand out as scales and quaternions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates.covariance import CovarianceChart, LocalCovariance, symmetric_derivative
from diff3r_plugin.finite import finite_rows
from diff3r_plugin.gaussians import Gaussians, rotation_matrices
from diff3r_plugin.linalg.small import entries3, product

_DIAGONAL_AND_ROTATION = ((0, 0), (1, 1), (2, 2), (2, 1), (0, 2), (1, 0))


class ScaleRotationChart(CovarianceChart):
    """Scales s₀ exp θ₁₋₃ and the rotation R₀ Q(θ₄₋₆), Q of the quaternion (1, θ/2) normalized (Cayley map).

    For hosts whose renderer reads scales and rotations. Isotropic Gaussians do not react to θ₄₋₆; their proximal
    weight holds these coordinates at zero.
    """

    kind = 1

    def __init__(self, reference: Gaussians) -> None:
        assert reference.scales is not None and reference.quats is not None
        self._scales, self._quats = reference.scales, reference.quats
        finite = finite_rows(self._scales) & finite_rows(self._quats)
        self.valid = finite & (self._scales >= 0).all(-1)
        self.movable = self.valid & (self._scales > 0).all(-1) & (self._quats.abs().amax(-1) > 0)
        self.mean_scale = (self._scales**2).mean(-1).sqrt()

    def decode(self, theta: Float[Tensor, "B N 6"]) -> dict[str, Tensor | None]:
        scales, quats = self._shape(theta)
        return {"covariances": None, "scales": scales, "quats": quats}

    def _shape(self, theta: Float[Tensor, "B N 6"]) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 4"]]:
        theta = torch.where(self.movable[..., None], theta, 0)
        half = torch.cat([torch.ones_like(theta[..., :1]), 0.5 * theta[..., 3:]], -1)
        return self._scales * theta[..., :3].exp(), _multiply_quats(self._quats, half)

    def encode(self, gaussians: Gaussians) -> Float[Tensor, "B N 6"]:
        assert gaussians.scales is not None and gaussians.quats is not None
        movable = self.movable[..., None]
        log_scales = (gaussians.scales - self._scales) / torch.where(movable, self._scales, 1)
        # The body-frame rotation that leads from the reference to a nearby quaternion: 2 Im(q₀* q) / |q₀|².
        conjugate = self._quats * self._quats.new_tensor([1.0, -1.0, -1.0, -1.0])
        squared = torch.where(movable, (self._quats**2).sum(-1, keepdim=True), 1)
        rotation = 2 * _multiply_quats(conjugate, gaussians.quats - self._quats)[..., 1:] / squared
        return torch.where(movable, torch.cat([log_scales, rotation], -1), 0)

    def at(self, theta: Float[Tensor, "B N 6"]) -> LocalCovariance:
        scales, quats = self._shape(theta)
        axes = entries3(rotation_matrices(quats))
        squared = torch.where(self.movable[..., None], scales**2, 0).unbind(-1)
        scaled = [[squared[i] * axes[j][i] for j in range(3)] for i in range(3)]
        positive = symmetric_derivative(axes, scaled, _DIAGONAL_AND_ROTATION)
        negative = symmetric_derivative(axes, scaled, tuple((j, i) for i, j in _DIAGONAL_AND_ROTATION))
        rotation = product((positive - negative)[..., 3:], _cayley_derivative(theta[..., 3:]))
        return LocalCovariance(torch.cat([positive[..., :3], rotation], -1))

    def anchors(self) -> Float[Tensor, "B N 7"]:
        return torch.cat([self._scales, self._quats], -1)


def _multiply_quats(a: Float[Tensor, "*batch 4"], b: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton product, wxyz."""
    scalar, vector = (
        a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(-1, keepdim=True),
        (a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + torch.linalg.cross(a[..., 1:], b[..., 1:], dim=-1)),
    )
    return torch.cat([scalar, vector], -1)


def _cayley_derivative(theta: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3 3"]:
    """Body angular velocity per change of θ, for the rotation of the quaternion (1, θ/2) normalized."""
    x, y, z = (0.5 * theta).unbind(-1)
    one = torch.ones_like(x)
    rows = ((one, z, -y), (-z, one, x), (y, -x, one))  # I - hat(θ/2)
    return torch.stack([torch.stack(row, -1) for row in rows], -2) / (1 + x * x + y * y + z * z)[..., None, None]
