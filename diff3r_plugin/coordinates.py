"""The unknowns θ of the inner problem: dimensionless, unconstrained changes of a reference scene.

One proximal weight means the same in every scene because every coordinate is a relative change:

* ``means``: offset in units of the Gaussian's own reference scale, μ = μ₀ + s₀ θ, s₀² = trace(Σ₀)/3
* ``covariance``: relative log-Cholesky, Σ = L₀ M Mᵀ L₀ᵀ with Σ₀ = L₀L₀ᵀ and M lower triangular, its diagonal exp θ₁₋₃,
  below it θ₄₋₆. For scenes given by scales and quats instead: scales s₀ exp θ₁₋₃ and a rotation about the principal
  axes by the vector θ₄₋₆ (to first order; the Cayley map beyond)
* ``opacity``: logit, o = sigmoid(logit o₀ + θ)
* ``sh_dc``, ``sh_rest``: SH coefficients, h = h₀ + θ
* ``poses``: an se(3) increment per view, world_to_camera = Exp(θ) · world_to_camera₀, θ = (translation, rotation)

θ = 0 is the reference, exactly. What cannot move (opacities of exactly 0 or 1, Gaussians of zero size: padding) has
zero derivatives, so it stays. θ is flat, ``[B, P]``, group after group.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diff3r_plugin.charts import CholeskyChart, CovarianceChart, LocalPose, PoseChart, ScaleRotationChart
from diff3r_plugin.config import GROUPS
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.linalg.small import product
from diff3r_plugin.render.linearization import GaussianGram
from diff3r_plugin.views import Views

LARGEST_LOGIT = 30.0
"""Logits change by at most this; exp of more overflows float32 and renders the same image."""

CORE_COLUMNS = {"means": (0, 3), "covariance": (3, 9), "opacity": (9, 10), "sh_dc": (10, 13)}


class Coordinates:
    """Maps θ ``[B, P]`` to scenes and back around a reference.

    Args:
        reference: The scene at θ = 0 (used without its graph).
        views: Cameras of the reference; needed when poses move.
        groups: Names from ``config.GROUPS`` that may move; they stand in θ in that order. ``sh_rest`` is dropped
            when there are no such coefficients.

    Raises:
        ValueError: for an unknown group, or none at all.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.coordinates import Coordinates
        >>> means, covariances = torch.zeros(1, 2, 3), torch.eye(3).expand(1, 2, 3, 3)
        >>> g = Gaussians(means, covariances, torch.full((1, 2), 0.5), torch.zeros(1, 2, 3, 1))
        >>> coordinates = Coordinates(g, None, ("means", "opacity"))
        >>> coordinates.num_unknowns, torch.equal(coordinates.decode(torch.zeros(1, 8)).means, g.means)
        (8, True)
    """

    def __init__(self, reference: Gaussians, views: Views | None, groups: Sequence[str]) -> None:
        unknown = [g for g in groups if g not in GROUPS]
        if unknown or not groups:
            raise ValueError(f"groups must be some of {', '.join(GROUPS)}, got {tuple(groups)}.")
        reference = reference.detach()
        self.reference = reference
        B, N, K = reference.batch_size, reference.num_gaussians, reference.harmonics.shape[-1]
        sizes = {"means": 3, "covariance": 6, "opacity": 1, "sh_dc": 3, "sh_rest": 3 * (K - 1)}
        self.shapes: dict[str, tuple[int, int]] = {
            g: (N, sizes[g]) for g in GROUPS if g in groups and sizes.get(g, 0) > 0
        }
        self._poses: PoseChart | None = None
        if "poses" in groups:
            if views is None:
                raise ValueError("To move the group 'poses', Coordinates need the views.")
            self._poses = PoseChart(views.world_to_camera.detach())
            self.shapes["poses"] = (views.num_views, 6)
        self.num_unknowns = sum(n * d for n, d in self.shapes.values())

        chart = CholeskyChart if reference.scales is None else ScaleRotationChart
        self._covariance: CovarianceChart = chart(reference)
        finite = torch.stack([t.isfinite().reshape(B, N, -1).all(-1) for t in reference.tensors()]).all(0)
        self.movable: Bool[Tensor, "B N"] = self._covariance.movable & finite
        self.valid: Bool[Tensor, "B N"] = self._covariance.valid & finite
        self._scale = torch.where(self.movable, self._covariance.mean_scale, 0)[..., None]
        self._batch = B

    def split(self, theta: Float[Tensor, "B P"]) -> dict[str, Float[Tensor, "B M d"]]:
        """θ as one tensor ``[B, N, d]`` a group (``[B, V, 6]`` for poses); views, not copies."""
        parts = theta.split([n * d for n, d in self.shapes.values()], dim=1)
        return {g: part.reshape(-1, *shape) for (g, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def join(self, parts: dict[str, Float[Tensor, "B M d"]]) -> Float[Tensor, "B P"]:
        """The inverse of :meth:`split`."""
        return torch.cat([parts[g].reshape(self._batch, -1) for g in self.shapes], dim=1)

    def decode(self, theta: Float[Tensor, "B P"]) -> Gaussians:
        """The scene at θ, in the form (covariances, or scales and quats) of the reference; differentiable."""
        parts, reference = self.split(theta), self.reference
        means, opacities, harmonics = reference.means, reference.opacities, reference.harmonics
        shape: dict[str, Tensor | None] = {
            name: getattr(reference, name) for name in ("covariances", "scales", "quats")
        }
        if "means" in parts:
            means = means + self._scale * parts["means"]
        if "covariance" in parts:
            shape = self._covariance.decode(parts["covariance"])
        if "opacity" in parts:
            # sigmoid(logit o + θ), written so that θ = 0 gives o to the last digit and o = 0, 1 stay.
            growth = torch.expm1(parts["opacity"][..., 0].clamp(-LARGEST_LOGIT, LARGEST_LOGIT))
            change = opacities * (1 - opacities) * growth / (1 + opacities * growth)
            opacities = torch.where(self._opacity_moves, opacities + change, opacities)
        if "sh_dc" in parts or "sh_rest" in parts:
            harmonics = harmonics + self._harmonics(parts)
        return Gaussians(means, opacities=opacities, harmonics=harmonics, **shape)

    def decode_cameras(self, theta: Float[Tensor, "B P"], views: Views) -> Views:
        """The views at θ: moved if poses are among the unknowns."""
        if self._poses is None:
            return views
        return views.replace(world_to_camera=self._poses.decode(self.split(theta)["poses"]))

    def encode(self, gaussians: Gaussians) -> Float[Tensor, "B P"]:
        """θ of the reference as a function of the scene it was taken from: zero, with the exact derivative.

        The chart around the reference is constant; only the network's own tensors carry gradients through this.
        """
        parts: dict[str, Tensor] = {}
        if "means" in self.shapes:
            inverse = torch.where(self._scale > 0, 1 / self._scale, 0)
            parts["means"] = (gaussians.means - self.reference.means) * inverse
        if "covariance" in self.shapes:
            parts["covariance"] = self._covariance.encode(gaussians)
        if "opacity" in self.shapes:
            slope = self._opacity_slope(self.reference.opacities)
            inverse = torch.where(self._opacity_moves, 1 / torch.where(slope > 0, slope, 1), 0)
            parts["opacity"] = ((gaussians.opacities - self.reference.opacities) * inverse)[..., None]
        moved = (gaussians.harmonics - self.reference.harmonics) * self.movable[..., None, None]
        if "sh_dc" in self.shapes:
            parts["sh_dc"] = moved[..., 0]
        if "sh_rest" in self.shapes:
            parts["sh_rest"] = moved[..., 1:].flatten(2)
        if "poses" in self.shapes:
            parts["poses"] = gaussians.means.new_zeros(self._batch, *self.shapes["poses"])
        return self.join(parts)

    def apply(self, theta: Float[Tensor, "B P"], gaussians: Gaussians) -> Gaussians:
        """The scene at θ for the caller: what cannot or may not move is the caller's own tensor, gradients included."""
        decoded = self.decode(theta)
        means, opacities, harmonics = decoded.means, decoded.opacities, decoded.harmonics
        still = ~self.movable
        means = torch.where(still[..., None], gaussians.means, means) if "means" in self.shapes else gaussians.means
        opacities = (
            torch.where(self._opacity_moves, opacities, gaussians.opacities)
            if "opacity" in self.shapes
            else gaussians.opacities
        )
        dc = harmonics[..., :1] if "sh_dc" in self.shapes else gaussians.harmonics[..., :1]
        rest = harmonics[..., 1:] if "sh_rest" in self.shapes else gaussians.harmonics[..., 1:]
        harmonics = torch.where(still[..., None, None], gaussians.harmonics, torch.cat([dc, rest], -1))
        shape: dict[str, Tensor | None] = {}
        for name in ("covariances", "scales", "quats"):
            own = getattr(gaussians, name)
            if own is None or "covariance" not in self.shapes:
                shape[name] = own
            else:
                mask = still.reshape(*still.shape, *[1] * (own.ndim - 2))
                shape[name] = torch.where(mask, own, getattr(decoded, name))
        return Gaussians(means, opacities=opacities, harmonics=harmonics, **shape)

    @cached_property
    def anchors(self) -> Float[Tensor, "B N 9"]:
        """What kernels know of the reference: whether it moves, its own size, and its covariance's chart."""
        movable = self.movable[..., None].to(self._scale.dtype)
        return torch.cat([movable, self._scale, self._covariance.anchors()], -1).contiguous()

    @property
    def covariance_kind(self) -> int:
        """Which chart the covariances have, as the kernels number them."""
        return self._covariance.kind

    @cached_property
    def plain_reference(self) -> Gaussians:
        """The reference as kernels read it: covariances, all tensors contiguous."""
        return self.reference.with_covariances().map(lambda t: t.contiguous())

    def first_unknown(self, group: str) -> int:
        """Where a group begins in θ; -1 if it does not move."""
        start = 0
        for g, (n, d) in self.shapes.items():
            if g == group:
                return start
            start += n * d
        return -1

    def poses_at(self, theta: Float[Tensor, "B P"]) -> LocalPose | None:
        """The derivative of θ → cameras at θ, if they move."""
        return None if self._poses is None else self._poses.at(self.split(theta)["poses"])

    def at(self, theta: Float[Tensor, "B P"]) -> LocalCoordinates:
        """The scene at θ with the derivative of :meth:`decode` there."""
        return LocalCoordinates(self, theta)

    @property
    def _opacity_moves(self) -> Bool[Tensor, "B N"]:
        return self.movable & (self._opacity_slope(self.reference.opacities) > 0)

    @staticmethod
    def _opacity_slope(opacities: Tensor) -> Tensor:
        return opacities * (1 - opacities)

    def _harmonics(self, parts: dict[str, Tensor]) -> Float[Tensor, "B N 3 K"]:
        """Change of the SH coefficients from the two SH groups."""
        reference = self.reference.harmonics
        dc, rest = parts.get("sh_dc"), parts.get("sh_rest")
        bands = [
            torch.zeros_like(reference[..., :1]) if dc is None else dc[..., None],
            torch.zeros_like(reference[..., 1:])
            if rest is None
            else rest.reshape(*rest.shape[:2], 3, reference.shape[-1] - 1),
        ]
        return torch.cat(bands, -1) * self.movable[..., None, None]


class LocalCoordinates:
    """The derivative of θ → scene at one θ: ``push`` for tangents, ``pull`` for cotangents, and its use on Grams.

    Args:
        coordinates: The chart.
        theta: Where, ``[B, P]``.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"]) -> None:
        self._coordinates = coordinates
        self.gaussians = coordinates.decode(theta).with_covariances()
        parts = coordinates.split(theta)
        self._covariance = coordinates._covariance.at(parts["covariance"]) if "covariance" in parts else None
        self._poses = coordinates._poses.at(parts["poses"]) if coordinates._poses is not None else None
        slope = coordinates._opacity_slope(self.gaussians.opacities)
        self._opacity_slope = torch.where(coordinates._opacity_moves, slope, 0)

    @property
    def moves_cameras(self) -> bool:
        return self._poses is not None

    def push(self, tangent: Float[Tensor, "B P"]) -> Gaussians:
        """Change of the scene for a change of θ."""
        c, scene = self._coordinates, self.gaussians
        parts = c.split(tangent)
        assert scene.covariances is not None
        return Gaussians(
            c._scale * parts["means"] if "means" in parts else torch.zeros_like(scene.means),
            torch.zeros_like(scene.covariances)
            if self._covariance is None
            else self._covariance.push(parts["covariance"]),
            self._opacity_slope * parts["opacity"][..., 0] if "opacity" in parts else torch.zeros_like(scene.opacities),
            c._harmonics(parts),
        )

    def push_cameras(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 4 4"]:
        """Change of ``world_to_camera`` for a change of θ."""
        assert self._poses is not None
        return self._poses.push(self._coordinates.split(tangent)["poses"])

    def pull(self, cotangent: Gaussians, cameras: Float[Tensor, "B V 4 4"] | None = None) -> Float[Tensor, "B P"]:
        """Gradient with respect to θ from a gradient with respect to the scene (and the cameras)."""
        c = self._coordinates
        parts: dict[str, Tensor] = {}
        if "means" in c.shapes:
            parts["means"] = c._scale * cotangent.means
        if self._covariance is not None:
            assert cotangent.covariances is not None
            parts["covariance"] = self._covariance.pull(cotangent.covariances)
        if "opacity" in c.shapes:
            parts["opacity"] = (self._opacity_slope * cotangent.opacities)[..., None]
        harmonics = cotangent.harmonics * c.movable[..., None, None]
        if "sh_dc" in c.shapes:
            parts["sh_dc"] = harmonics[..., 0]
        if "sh_rest" in c.shapes:
            parts["sh_rest"] = harmonics[..., 1:].flatten(2)
        if self._poses is not None:
            assert cameras is not None
            parts["poses"] = self._poses.pull(cameras)
        return c.join(parts)

    def gram_diagonal(self, gram: GaussianGram) -> Float[Tensor, "B P"]:
        """The exact diagonal of JᵀWJ in θ (0 for poses, which the Gram does not know)."""
        c = self._coordinates
        core = gram.core.diagonal(dim1=-2, dim2=-1)
        parts: dict[str, Tensor] = {}
        for g, (n, d) in c.shapes.items():
            if g == "covariance":
                assert self._covariance is not None
                C = self._covariance.matrix
                parts[g] = (C * product(gram.core[..., 3:9, 3:9], C)).sum(-2)
            elif g == "sh_rest":
                parts[g] = (gram.sh_rest * c.movable[..., None, None]).flatten(2)
            elif g == "poses":
                parts[g] = core.new_zeros(c._batch, n, d)
            else:
                first, last = CORE_COLUMNS[g]
                parts[g] = core[..., first:last] * self._slope(g) ** 2
        return c.join(parts)

    def gram_blocks(self, gram: GaussianGram) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        """The exact per-Gaussian blocks of JᵀWJ in θ without ``sh_rest``, and where their unknowns stand in θ."""
        c = self._coordinates
        groups = [g for g in CORE_COLUMNS if g in c.shapes]

        def derivative(block: Tensor, g: str) -> Tensor:
            """One group's core numbers, the last axis, exchanged for its unknowns."""
            part = block[..., slice(*CORE_COLUMNS[g])]
            if g == "covariance":
                assert self._covariance is not None
                return product(part, self._covariance.matrix)
            return part * self._slope(g)[..., None]

        half = torch.cat([derivative(gram.core, g) for g in groups], -1) if groups else gram.core[..., :0]
        blocks = torch.cat([derivative(half.mT, g) for g in groups], -1) if groups else gram.core[..., :0, :0]
        positions, start = [], 0
        for g, (n, d) in c.shapes.items():
            if g in CORE_COLUMNS:
                positions.append(start + torch.arange(n * d, device=blocks.device).reshape(n, d))
            start += n * d
        empty = torch.zeros(self.gaussians.num_gaussians, 0, dtype=torch.long, device=blocks.device)
        return blocks, torch.cat(positions, 1) if positions else empty

    def _slope(self, group: str) -> Float[Tensor, "B N 1"]:
        """d(core number) / dθ of a group in which that is one number per Gaussian."""
        c = self._coordinates
        if group == "means":
            return c._scale
        return (self._opacity_slope if group == "opacity" else c.movable.to(c._scale.dtype))[..., None]
