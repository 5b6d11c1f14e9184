"""The scene as every part of this package sees it: a batch of 3D Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.argument_types import batch_hint, require_device, require_tensor


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A batch of scenes made of 3D Gaussians, in the world frame, with activations already applied.

    The same class carries tangents (changes of a scene) and cotangents (gradients), so the constructor checks
    shapes, never values. Shapes: B scenes, N Gaussians a scene, K = (SH degree + 1)² coefficients.

    Args:
        means: Centers, ``[B, N, 3]``, world units.
        covariances: ``[B, N, 3, 3]``, symmetric, world units squared; None in scenes of :meth:`from_scales`.
        opacities: ``[B, N]``, in [0, 1].
        harmonics: Spherical-harmonics coefficients per color channel, ``[B, N, 3, K]``, K in {1, 4, 9, 16, 25},
            in the real basis that gsplat uses; color = max(0, SH(direction) + 0.5).
        scales: Standard deviations along the principal axes, ``[B, N, 3]``, world units.
        quats: Rotations of the principal axes as wxyz quaternions, ``[B, N, 4]``; need not be normalized.

    Raises:
        TypeError: if something is no tensor, or does not hold floating-point numbers.
        ValueError: if a shape or a device does not fit the others, or neither (or both) of covariances and
            scales + quats is given.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians
        >>> means, covariances = torch.zeros(1, 5, 3), torch.eye(3).expand(1, 5, 3, 3)
        >>> g = Gaussians(means, covariances, torch.full((1, 5), 0.5), torch.zeros(1, 5, 3, 4))
        >>> g.num_gaussians, g.sh_degree
        (5, 1)
    """

    means: Float[Tensor, "B N 3"]
    covariances: Float[Tensor, "B N 3 3"] | None
    opacities: Float[Tensor, "B N"]
    harmonics: Float[Tensor, "B N 3 K"]
    scales: Float[Tensor, "B N 3"] | None = None
    quats: Float[Tensor, "B N 4"] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or field.name in ("means", "opacities", "harmonics"):
                require_tensor(field.name, value)
                require_device(field.name, value, self.means.device, "means")
        if self.means.ndim != 3 or self.means.shape[-1] != 3:
            hint = batch_hint(self.means, 3)
            raise ValueError(f"means must have shape [B, N, 3], got {list(self.means.shape)}.{hint}")
        B, N, _ = self.means.shape
        if (self.covariances is None) == (self.scales is None) or (self.scales is None) != (self.quats is None):
            raise ValueError("Give either covariances, or scales together with quats (wxyz).")
        expected = {
            "covariances": (B, N, 3, 3),
            "opacities": (B, N),
            "scales": (B, N, 3),
            "quats": (B, N, 4),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                hint = " Drop the last dimension with [..., 0]." if tuple(value.shape) == (*shape, 1) else ""
                raise ValueError(
                    f"{name} must have shape {list(shape)} to match means {[B, N, 3]}, got {list(value.shape)}.{hint}"
                )
        K = self.harmonics.shape[-1] if self.harmonics.ndim else 0
        if tuple(self.harmonics.shape) != (B, N, 3, K) or K not in (1, 4, 9, 16, 25):
            raise ValueError(
                f"harmonics must have shape [{B}, {N}, 3, K] with K = (degree + 1)² in 1, 4, 9, 16, 25, "
                f"got {list(self.harmonics.shape)}.{_coefficients_hint(self.harmonics, (B, N))}"
            )

    @classmethod
    def from_scales(
        cls,
        means: Float[Tensor, "B N 3"],
        scales: Float[Tensor, "B N 3"],
        quats: Float[Tensor, "B N 4"],
        opacities: Float[Tensor, "B N"],
        harmonics: Float[Tensor, "B N 3 K"],
    ) -> Gaussians:
        """Scenes given by standard deviations along the principal axes and by the axes' rotations.

        Arguments are those of the class; they are kept as they are, :meth:`with_covariances` multiplies them out.

        Example:
            >>> import torch
            >>> from diff3r_plugin import Gaussians
            >>> scales, upright = torch.full((1, 5, 3), 0.1), torch.tensor([1.0, 0, 0, 0]).expand(1, 5, 4)
            >>> harmonics = torch.zeros(1, 5, 3, 4)
            >>> g = Gaussians.from_scales(torch.zeros(1, 5, 3), scales, upright, torch.full((1, 5), 0.5), harmonics)
            >>> g.with_covariances().covariances.shape
            torch.Size([1, 5, 3, 3])
        """
        return cls(means, None, opacities, harmonics, scales, quats)

    @property
    def batch_size(self) -> int:
        """Scenes, B."""
        return self.means.shape[0]

    @property
    def num_gaussians(self) -> int:
        """Gaussians in each scene, N."""
        return self.means.shape[1]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 4."""
        return int(self.harmonics.shape[-1] ** 0.5 + 0.5) - 1

    @property
    def dtype(self) -> torch.dtype:
        """Of the means."""
        return self.means.dtype

    @property
    def device(self) -> torch.device:
        """Of the means."""
        return self.means.device

    @property
    def covariance_matrices(self) -> Float[Tensor, "B N 3 3"]:
        """The covariances, multiplied out where the scene has scales and quats."""
        covariances = self.with_covariances().covariances
        assert covariances is not None
        return covariances

    def replace(self, **changes: Any) -> Gaussians:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """Apply ``function`` to every tensor that is present."""
        return Gaussians(
            function(self.means),
            None if self.covariances is None else function(self.covariances),
            function(self.opacities),
            function(self.harmonics),
            None if self.scales is None else function(self.scales),
            None if self.quats is None else function(self.quats),
        )

    def detach(self) -> Gaussians:
        """The same numbers without an autograd graph."""
        return self.map(lambda t: t.detach())

    def to(self, *args: Any, **kwargs: Any) -> Gaussians:
        """``torch.Tensor.to`` on every tensor."""
        return self.map(lambda t: t.to(*args, **kwargs))

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that are present, in field order."""
        return tuple(v for f in fields(self) if (v := getattr(self, f.name)) is not None)

    def with_covariances(self) -> Gaussians:
        """The same scene with covariances R diag(scales²) Rᵀ in place of scales and quats (itself if it has them)."""
        if self.scales is None or self.quats is None:
            return self
        factor = rotation_matrices(self.quats) * self.scales[..., None, :]
        # Not a matrix product, which may be rounded to TF32.
        covariances = (factor[..., :, None, :] * factor[..., None, :, :]).sum(-1)
        return Gaussians(self.means, covariances, self.opacities, self.harmonics)


def _coefficients_hint(harmonics: Tensor, scenes: tuple[int, int]) -> str:
    """What to do with harmonics in the order of gsplat and of PLY readers, or with plain colors."""
    if harmonics.ndim == 4 and harmonics.shape[-1] == 3 and tuple(harmonics.shape[:2]) == scenes:
        return " Coefficients come last: transpose with harmonics.mT."
    if tuple(harmonics.shape) == (*scenes, 3):
        return " Plain colors are ((colors - 0.5) / 0.28209479)[..., None]."
    return ""


def rotation_matrices(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of wxyz quaternions, which are normalized first (a zero quaternion gives the identity).

    Example:
        >>> import torch
        >>> from diff3r_plugin.gaussians import rotation_matrices
        >>> rotation_matrices(torch.tensor([2.0, 0.0, 0.0, 0.0])).diagonal()
        tensor([1., 1., 1.])
    """
    squared = (quats * quats).sum(-1)
    two_over_norm = torch.where(squared > 0, 2 / squared.clamp_min(torch.finfo(quats.dtype).tiny), 0)
    w, x, y, z = quats.unbind(-1)
    s = two_over_norm
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
