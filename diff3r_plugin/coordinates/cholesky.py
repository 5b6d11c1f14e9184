"""The chart of covariances that hosts hand out as matrices."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.coordinates.covariance import CovarianceChart, LocalCovariance, symmetric_derivative
from diff3r_plugin.finite import finite_rows
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.linalg.small import (
    SYMMETRIC_ENTRIES,
    Lower3,
    dense3,
    entries3,
    matmul3,
    stack3,
    subtract,
    transpose3,
)

RELATIVE_PIVOT_FLOOR = 1e-4
"""Smallest Cholesky pivot relative to the Gaussian's size: a thinner Gaussian moves as if it were this thick."""

_LOWER = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))


class CholeskyChart(CovarianceChart):
    """Relative log-Cholesky: Σ = L₀ M Mᵀ L₀ᵀ, M lower triangular, diagonal exp θ₁₋₃, below (2,1) (3,1) (3,2) θ₄₋₆.

    No gauge freedom, no quaternion, and one formula for every host that hands out covariances
    (log-Cholesky metric: Lin 2019).
    """

    kind = 0

    def __init__(self, reference: Gaussians) -> None:
        self._reference = reference.covariance_matrices
        self._factor, self.valid, self.movable = _cholesky(self._reference)
        trace = self._reference.diagonal(dim1=-2, dim2=-1).sum(-1)
        self.mean_scale = torch.where(self.movable, trace.clamp_min(0) / 3, 0).sqrt()

    def decode(self, theta: Float[Tensor, "B N 6"]) -> dict[str, Tensor | None]:
        L = self._factor.rows()
        factor = matmul3(L, _lower_triangular(theta).rows())
        # Added to the reference, so that θ = 0 gives back its very digits even where L₀L₀ᵀ does not.
        now, before = matmul3(factor, transpose3(factor)), matmul3(L, transpose3(L))
        change = [
            [subtract(a, b) for a, b in zip(row, other, strict=True)] for row, other in zip(now, before, strict=True)
        ]
        return {"covariances": self._reference + stack3(change), "scales": None, "quats": None}

    def encode(self, gaussians: Gaussians) -> Float[Tensor, "B N 6"]:
        change = torch.where(self.movable[..., None, None], gaussians.covariance_matrices - self._reference, 0)
        # A network may hand out slightly unsymmetric covariances; the renderer reads their symmetric part.
        symmetric = entries3(0.5 * (change + change.mT))
        inverse = _inverse_lower(self._factor, self.movable).rows()
        relative = dense3(matmul3(matmul3(inverse, symmetric), transpose3(inverse)))
        return torch.stack([relative[i][j] * (0.5 if i == j else 1) for i, j in _LOWER], -1)

    def at(self, theta: Float[Tensor, "B N 6"]) -> LocalCovariance:
        L = self._factor.rows()
        factor = matmul3(L, _lower_triangular(theta).rows())
        slopes = (*theta[..., :3].exp().unbind(-1), None, None, None)
        return LocalCovariance(symmetric_derivative(L, transpose3(factor), _LOWER, slopes))

    def anchors(self) -> Float[Tensor, "B N 7"]:
        return torch.stack([*self._factor, torch.zeros_like(self._factor.xx)], -1)


def _cholesky(
    covariances: Float[Tensor, "B N 3 3"],
) -> tuple[Lower3, Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Lower factors (0 where not movable), validity and movability."""
    a, b, c, d, e, f = (0.5 * (covariances[..., i, j] + covariances[..., j, i]) for i, j in SYMMETRIC_ENTRIES)
    trace = a + d + f
    finite = finite_rows(torch.stack([a, b, c, d, e, f], -1))
    movable = finite & (trace > torch.finfo(covariances.dtype).tiny)
    size = torch.where(movable, trace, 1)
    floor = (RELATIVE_PIVOT_FLOOR**2) * size

    def pivot(squared: Tensor) -> Tensor:
        return torch.maximum(torch.where(movable, squared, 1), floor).sqrt()

    l11 = pivot(a)
    l21, l31 = b / l11, c / l11
    l22 = pivot(d - l21 * l21)
    l32 = (e - l31 * l21) / l22
    l33 = pivot(f - l31 * l31 - l32 * l32)
    valid = finite & (_semidefinite((a, b, c, d, e, f), size) | ~movable) & (trace >= 0)
    movable = movable & valid
    return Lower3(*(torch.where(movable, x, 0) for x in (l11, l21, l22, l31, l32, l33))), valid, movable


def _semidefinite(entries: tuple[Tensor, ...], size: Tensor) -> Bool[Tensor, "B N"]:
    """Whether matrices are positive semidefinite but for rounding, which their own pivots cannot tell.

    A pivot that is all cancellation makes the next one anything. With a thousand roundings of the size added to the
    diagonal no pivot is: they are positive if and only if no eigenvalue is more negative than that.
    """
    shift = 1e3 * torch.finfo(size.dtype).eps * size
    a, b, c, d, e, f = entries
    a, d, f = a + shift, d + shift, f + shift
    first = torch.where(a > 0, a, 1)
    rest = d - b * b / first
    second = torch.where(rest > 0, rest, 1)
    last = f - c * c / first - (e - b * c / first) ** 2 / second
    return (a > 0) & (rest > 0) & (last > 0)


def _inverse_lower(factor: Lower3, movable: Bool[Tensor, "B N"]) -> Lower3:
    """Inverse of a lower triangular matrix; the identity where not movable."""
    d1, d2, d3 = (torch.where(movable, pivot, 1).reciprocal() for pivot in (factor.xx, factor.yy, factor.zz))
    a, b, c = factor.yx, factor.zx, factor.zy
    return Lower3(d1, -a * d1 * d2, d2, (a * c * d2 - b) * d1 * d3, -c * d2 * d3, d3)


def _lower_triangular(theta: Float[Tensor, "B N 6"]) -> Lower3:
    d1, d2, d3 = theta[..., :3].exp().unbind(-1)
    a, b, c = theta[..., 3:].unbind(-1)
    return Lower3(d1, a, d2, b, c, d3)
