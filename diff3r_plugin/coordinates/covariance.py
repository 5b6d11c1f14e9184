"""What the two charts of a covariance have in common.

Both have a derivative of the form dΣ = A·dM·C + (A·dM·C)ᵀ with a small matrix dM(dθ), so that the 6 × 6 matrix from dθ
to the six free entries of dΣ is written once, here, and applied as often as wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.linalg.small import SYMMETRIC_ENTRIES, Matrix3, add, apply, multiply

_UNPACK = [0, 1, 2, 1, 3, 4, 2, 4, 5]


class LocalCovariance:
    """The derivative of θ → Σ at one θ.

    Args:
        matrix: ``[B, N, 6, 6]``, from the six θ to the six entries :data:`SYMMETRIC_ENTRIES`.
    """

    def __init__(self, matrix: Float[Tensor, "B N 6 6"]) -> None:
        self.matrix = matrix

    def jvp(self, tangent: Float[Tensor, "B N 6"]) -> Float[Tensor, "B N 3 3"]:
        """dΣ for dθ."""
        entries = apply(self.matrix, tangent).unbind(-1)
        return torch.stack([entries[i] for i in _UNPACK], -1).unflatten(-1, (3, 3))

    def vjp(self, cotangent: Float[Tensor, "B N 3 3"]) -> Float[Tensor, "B N 6"]:
        """Gradient by θ from the (symmetric, full) gradient by Σ."""
        packed = torch.stack([cotangent[..., i, j] * (1 if i == j else 2) for i, j in SYMMETRIC_ENTRIES], -1)
        return apply(self.matrix.mT, packed)


class CovarianceChart(ABC):
    """θ ``[B, N, 6]`` around the shape of each Gaussian of a reference scene; θ = 0 is the reference, exactly.

    Attributes:
        movable: ``[B, N]``; False where the reference is of zero size, not finite, or not positive semidefinite.
        valid: ``[B, N]``; False where the reference is not finite or not positive semidefinite (not for zero size).
        mean_scale: Root mean square of the three standard deviations, ``[B, N]``, world units.
    """

    kind: int
    """``CovarianceKind`` of ``kernels/math/charts.h``."""
    movable: Bool[Tensor, "B N"]
    valid: Bool[Tensor, "B N"]
    mean_scale: Float[Tensor, "B N"]

    @abstractmethod
    def decode(self, theta: Float[Tensor, "B N 6"]) -> dict[str, Tensor | None]:
        """The shape fields of :class:`Gaussians` (covariances, scales, quats) at θ."""

    @abstractmethod
    def encode(self, gaussians: Gaussians) -> Float[Tensor, "B N 6"]:
        """θ of the reference, zero in value, with the derivative by the scene it was taken from."""

    @abstractmethod
    def at(self, theta: Float[Tensor, "B N 6"]) -> LocalCovariance:
        """The derivative of θ → Σ at θ."""

    @abstractmethod
    def anchors(self) -> Float[Tensor, "B N 7"]:
        """What the kernels read of each reference: the factor by rows, or scales and quaternion; zeros after that."""


def symmetric_derivative(
    A: Matrix3, C: Matrix3, basis: tuple[tuple[int, int], ...], slopes: tuple[Tensor | None, ...] = (None,) * 6
) -> Float[Tensor, "B N 6 6"]:
    """Entries of A E C + (A E C)ᵀ for six basis matrices E with a single one at (i, j), times a slope each."""
    like = A[0][0]
    assert like is not None
    numbers = []
    for p, q in SYMMETRIC_ENTRIES:
        for (i, j), slope in zip(basis, slopes, strict=True):
            entry = add(multiply(A[p][i], C[j][q]), multiply(A[q][i], C[j][p]))
            if slope is not None:
                entry = multiply(entry, slope)
            numbers.append(torch.zeros_like(like) if entry is None else entry)
    return torch.stack(numbers, -1).unflatten(-1, (6, 6))
