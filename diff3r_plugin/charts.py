"""Dimensionless charts of the two curved parts of a scene: covariances and camera poses.

Both covariance charts have a derivative of the form dΣ = A·dM·C + (A·dM·C)ᵀ with a small matrix dM(dθ), so that the
6 × 6 matrix from dθ to the six free entries of dΣ is written once, here, and applied as often as wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians, rotation_matrices
from diff3r_plugin.linalg.small import (
    SYMMETRIC_ENTRIES,
    Matrix3,
    add,
    apply,
    entries3,
    matmul3,
    multiply,
    product,
    stack3,
    subtract,
    transpose3,
)

RELATIVE_PIVOT_FLOOR = 1e-4
"""Smallest Cholesky pivot relative to the Gaussian's size: a thinner Gaussian moves as if it were this thick."""

_UNPACK = [0, 1, 2, 1, 3, 4, 2, 4, 5]
_LOWER = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))
_DIAGONAL_AND_ROTATION = ((0, 0), (1, 1), (2, 2), (2, 1), (0, 2), (1, 0))


class LocalCovariance:
    """The derivative of θ → Σ at one θ.

    Args:
        matrix: ``[B, N, 6, 6]``, from the six θ to the six entries :data:`SYMMETRIC_ENTRIES`.
    """

    def __init__(self, matrix: Float[Tensor, "B N 6 6"]) -> None:
        self.matrix = matrix

    def push(self, tangent: Float[Tensor, "B N 6"]) -> Float[Tensor, "B N 3 3"]:
        """dΣ for dθ."""
        entries = apply(self.matrix, tangent).unbind(-1)
        return torch.stack([entries[i] for i in _UNPACK], -1).unflatten(-1, (3, 3))

    def pull(self, cotangent: Float[Tensor, "B N 3 3"]) -> Float[Tensor, "B N 6"]:
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


class CholeskyChart(CovarianceChart):
    """Relative log-Cholesky: Σ = L₀ M Mᵀ L₀ᵀ, M lower triangular, diagonal exp θ₁₋₃, below (2,1) (3,1) (3,2) θ₄₋₆.

    No gauge freedom, no quaternion, and one formula for every host that hands out covariances
    (log-Cholesky metric: Lin 2019).
    """

    kind = 0

    def __init__(self, reference: Gaussians) -> None:
        assert reference.covariances is not None
        self._reference = reference.covariances
        self._factor, self.valid, self.movable = _cholesky(self._reference)
        trace = self._reference.diagonal(dim1=-2, dim2=-1).sum(-1)
        self.mean_scale = torch.where(self.movable, trace.clamp_min(0) / 3, 0).sqrt()

    def decode(self, theta):
        L = self._factor
        factor = matmul3(L, _lower_triangular(theta))
        # Added to the reference, so that θ = 0 gives back its very digits even where L₀L₀ᵀ does not.
        now, before = matmul3(factor, transpose3(factor)), matmul3(L, transpose3(L))
        change = [
            [subtract(a, b) for a, b in zip(row, other, strict=True)] for row, other in zip(now, before, strict=True)
        ]
        return {"covariances": self._reference + stack3(change), "scales": None, "quats": None}

    def encode(self, gaussians):
        assert gaussians.covariances is not None
        change = torch.where(self.movable[..., None, None], gaussians.covariances - self._reference, 0)
        # A network may hand out slightly unsymmetric covariances; the renderer reads their symmetric part.
        change = entries3(0.5 * (change + change.mT))  # type: ignore[assignment]
        inverse = _inverse_lower(self._factor, self.movable)
        relative = matmul3(matmul3(inverse, change), transpose3(inverse))  # type: ignore[arg-type]
        return torch.stack([relative[i][j] * (0.5 if i == j else 1) for i, j in _LOWER], -1)  # type: ignore[misc, operator]

    def at(self, theta):
        factor = matmul3(self._factor, _lower_triangular(theta))
        slopes = (*theta[..., :3].exp().unbind(-1), None, None, None)
        return LocalCovariance(_symmetric_derivative(self._factor, transpose3(factor), _LOWER, slopes))

    def anchors(self):
        (a, _, _), (b, c, _), (d, e, f) = self._factor
        return torch.stack([a, b, c, d, e, f, torch.zeros_like(a)], -1)  # type: ignore[list-item, arg-type]


class ScaleRotationChart(CovarianceChart):
    """Scales s₀ exp θ₁₋₃ and the rotation R₀ Q(θ₄₋₆), Q of the quaternion (1, θ/2) normalized (Cayley map).

    For hosts whose renderer reads scales and rotations. Isotropic Gaussians do not react to θ₄₋₆; their proximal
    weight holds these coordinates at zero.
    """

    kind = 1

    def __init__(self, reference: Gaussians) -> None:
        assert reference.scales is not None and reference.quats is not None
        self._scales, self._quats = reference.scales, reference.quats
        finite = self._scales.isfinite().all(-1) & self._quats.isfinite().all(-1)
        self.valid = finite & (self._scales >= 0).all(-1)
        self.movable = self.valid & (self._scales > 0).all(-1) & (self._quats.abs().amax(-1) > 0)
        self.mean_scale = (self._scales**2).mean(-1).sqrt()

    def decode(self, theta):
        theta = torch.where(self.movable[..., None], theta, 0)
        scales = self._scales * theta[..., :3].exp()
        half = torch.cat([torch.ones_like(theta[..., :1]), 0.5 * theta[..., 3:]], -1)
        return {"covariances": None, "scales": scales, "quats": _multiply_quats(self._quats, half)}

    def encode(self, gaussians):
        assert gaussians.scales is not None and gaussians.quats is not None
        movable = self.movable[..., None]
        log_scales = (gaussians.scales - self._scales) / torch.where(movable, self._scales, 1)
        # The body-frame rotation that leads from the reference to a nearby quaternion: 2 Im(q₀* q) / |q₀|².
        conjugate = self._quats * self._quats.new_tensor([1.0, -1.0, -1.0, -1.0])
        squared = torch.where(movable, (self._quats**2).sum(-1, keepdim=True), 1)
        rotation = 2 * _multiply_quats(conjugate, gaussians.quats - self._quats)[..., 1:] / squared
        return torch.where(movable, torch.cat([log_scales, rotation], -1), 0)

    def at(self, theta):
        shape = self.decode(theta)
        axes = entries3(rotation_matrices(shape["quats"]))
        squared = torch.where(self.movable[..., None], shape["scales"] ** 2, 0).unbind(-1)
        scaled = [[squared[i] * axes[j][i] for j in range(3)] for i in range(3)]  # type: ignore[operator]
        positive = _symmetric_derivative(axes, scaled, _DIAGONAL_AND_ROTATION)
        negative = _symmetric_derivative(axes, scaled, tuple((j, i) for i, j in _DIAGONAL_AND_ROTATION))
        rotation = product((positive - negative)[..., 3:], _cayley_derivative(theta[..., 3:]))
        return LocalCovariance(torch.cat([positive[..., :3], rotation], -1))

    def anchors(self):
        return torch.cat([self._scales, self._quats], -1)


class PoseChart:
    """world_to_camera = Exp(θ) · reference, θ = (translation, rotation vector) in the camera frame, ``[B, V, 6]``.

    Translations are in units of the scene; ``Exp`` is the exponential map of SE(3).
    """

    def __init__(self, reference: Float[Tensor, "B V 4 4"]) -> None:
        self._reference = reference
        self._generators = _se3_generators(reference)

    def decode(self, theta: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 4 4"]:
        """The cameras at θ; differentiable."""
        algebra = (theta[..., None, None] * self._generators).sum(-3)
        # In double: few numbers, and matrix_exp is made of matrix products.
        return product(torch.linalg.matrix_exp(algebra.double()).to(theta.dtype), self._reference)

    def at(self, theta: Float[Tensor, "B V 6"]) -> LocalPose:
        """The derivative of :meth:`decode` at θ."""
        columns = [
            torch.func.jvp(self.decode, (theta,), (unit.expand_as(theta),))[1]
            for unit in torch.eye(6, dtype=theta.dtype, device=theta.device)
        ]
        return LocalPose(torch.stack(columns, -1))


class LocalPose:
    """The derivative of θ → world_to_camera at one θ, as a tensor ``[B, V, 4, 4, 6]``."""

    def __init__(self, matrix: Float[Tensor, "B V 4 4 6"]) -> None:
        self._matrix = matrix

    def push(self, tangent: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 4 4"]:
        """Change of the cameras for dθ."""
        return apply(self._matrix, tangent[..., None, :])

    def pull(self, cotangent: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 6"]:
        """Gradient by θ from the gradient by the cameras."""
        return (self._matrix * cotangent[..., None]).sum((-3, -2))


def _cholesky(
    covariances: Float[Tensor, "B N 3 3"],
) -> tuple[Matrix3, Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Lower factors (0 where not movable), validity and movability."""
    a, b, c, d, e, f = (0.5 * (covariances[..., i, j] + covariances[..., j, i]) for i, j in SYMMETRIC_ENTRIES)
    trace = a + d + f
    finite = torch.stack([a, b, c, d, e, f]).isfinite().all(0)
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
    l11, l21, l31, l22, l32, l33 = (torch.where(movable, x, 0) for x in (l11, l21, l31, l22, l32, l33))
    return [[l11, None, None], [l21, l22, None], [l31, l32, l33]], valid, movable


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


def _inverse_lower(factor: Matrix3, movable: Bool[Tensor, "B N"]) -> Matrix3:
    """Inverse of a lower triangular matrix; the identity where not movable."""
    d1, d2, d3 = (torch.where(movable, factor[i][i], 1).reciprocal() for i in range(3))  # type: ignore[arg-type]
    a, b, c = factor[1][0], factor[2][0], factor[2][1]
    return [[d1, None, None], [-a * d1 * d2, d2, None], [(a * c * d2 - b) * d1 * d3, -c * d2 * d3, d3]]  # type: ignore[operator]


def _lower_triangular(theta: Float[Tensor, "B N 6"]) -> Matrix3:
    d1, d2, d3 = theta[..., :3].exp().unbind(-1)
    a, b, c = theta[..., 3:].unbind(-1)
    return [[d1, None, None], [a, d2, None], [b, c, d3]]


def _symmetric_derivative(
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


def _se3_generators(like: Tensor) -> Float[Tensor, "6 4 4"]:
    generators = torch.zeros(6, 4, 4, dtype=like.dtype, device=like.device)
    for axis in range(3):
        generators[axis, axis, 3] = 1
        i, j = (axis + 1) % 3, (axis + 2) % 3
        generators[3 + axis, j, i] = 1
        generators[3 + axis, i, j] = -1
    return generators
