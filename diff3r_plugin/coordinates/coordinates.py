"""The unknowns θ of the inner problem: dimensionless, unconstrained changes of a reference scene.

One proximal weight means the same in every scene because every coordinate is a relative change:

* ``means``: offset in units of the Gaussian's own reference scale, μ = μ₀ + s₀ θ, s₀² = trace(Σ₀)/3
* ``covariance``: relative log-Cholesky, Σ = L₀ M Mᵀ L₀ᵀ with Σ₀ = L₀L₀ᵀ and M lower triangular, its diagonal exp θ₁₋₃,
  below it θ₄₋₆. For scenes given by scales and quats instead: scales s₀ exp θ₁₋₃ and a rotation about the principal
  axes by the vector θ₄₋₆ (to first order; the Cayley map beyond)
* ``opacity``: logit, o = sigmoid(logit o₀ + θ)
* ``sh_dc``, ``sh_rest``: SH coefficients, h = h₀ + θ
* ``poses``: an se(3) increment per view, world_to_camera = Exp(θ) · world_to_camera₀, θ = (translation, rotation)
* ``exposure``: per view and color channel a log-gain and a bias, image = exp(θ₁₋₃) · rendering + θ₄₋₆

θ = 0 is the reference, exactly. What cannot move (opacities of exactly 0 or 1, Gaussians of zero size: padding) has
zero derivatives, so it stays. θ is flat, ``[B, P]``, group after group.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.coordinates.cholesky import CholeskyChart
from diff3r_plugin.coordinates.covariance import CovarianceChart
from diff3r_plugin.coordinates.poses import LocalPose, PoseChart
from diff3r_plugin.coordinates.scale_rotation import ScaleRotationChart
from diff3r_plugin.finite import finite_rows
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.groups.exposure import Exposure, decode_exposure
from diff3r_plugin.views import Views

LARGEST_LOGIT = 30.0
"""Logits change by at most this; exp of more overflows float32 and renders the same image."""


class Coordinates:
    """Maps θ ``[B, P]`` to scenes and back around a reference.

    Args:
        reference: The scene at θ = 0 (used without its graph).
        views: Cameras of the reference; needed when groups of views are optimized.
        groups: Names from ``groups.GROUPS`` that are optimized; they stand in θ in that order, those that act on images
            last. ``sh_rest`` is dropped when there are no such coefficients.

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
        self.shapes: dict[str, tuple[int, int]] = {}
        self.pose_chart: PoseChart | None = None
        for group in sorted(GROUPS.values(), key=lambda group: group.images is not None):
            if group.name not in groups or not group.numbers(K):
                continue
            if group.of_views and views is None:
                raise ValueError(f"To optimize the group {group.name!r}, Coordinates need the views.")
            owners = views.num_views if group.of_views and views is not None else N
            self.shapes[group.name] = (owners, group.numbers(K))
        if "poses" in self.shapes and views is not None:
            self.pose_chart = PoseChart(views.world_to_camera.detach())
        self.num_unknowns = sum(n * d for n, d in self.shapes.values())

        chart = CholeskyChart if reference.scales is None else ScaleRotationChart
        self.covariance_chart: CovarianceChart = chart(reference)
        finite = torch.stack([finite_rows(t.reshape(B, N, -1)) for t in reference.tensors()]).all(0)
        self.movable: Bool[Tensor, "B N"] = self.covariance_chart.movable & finite
        # A size whose square, the covariance, is four orders of magnitude away from what its dtype can hold.
        self._largest_size = 1e-2 * torch.finfo(reference.dtype).max ** 0.5
        bounded = self.covariance_chart.mean_scale < self._largest_size
        self.valid: Bool[Tensor, "B N"] = self.covariance_chart.valid & finite & bounded
        self.scale = torch.where(self.movable, self.covariance_chart.mean_scale, 0)[..., None]
        self.batch_size = B

    def split(self, theta: Float[Tensor, "B P"]) -> dict[str, Float[Tensor, "B M d"]]:
        """θ as one tensor ``[B, N, d]`` a group (``[B, V, 6]`` for poses); views, not copies."""
        parts = theta.split([n * d for n, d in self.shapes.values()], dim=1)
        return {g: part.reshape(-1, *shape) for (g, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def join(self, parts: dict[str, Float[Tensor, "B M d"]]) -> Float[Tensor, "B P"]:
        """The inverse of :meth:`split`."""
        if not self.shapes:  # what is rendered, where every group acts on images
            return self.reference.means.new_zeros(self.batch_size, 0)
        return torch.cat([parts[g].reshape(self.batch_size, -1) for g in self.shapes], dim=1)

    def representable(self, theta: Float[Tensor, "B P"]) -> Bool[Tensor, " B"]:
        """Scenes whose covariances at θ are finite in their dtype, with room to multiply them by what a camera does.

        A renderer leaves out a Gaussian that is not finite, so its energy does not tell.
        """
        if "covariance" not in self.shapes:
            return torch.ones(self.batch_size, dtype=torch.bool, device=theta.device)
        own = self.split(theta.detach())["covariance"]
        growth = own[..., :3].amax(-1).exp() + own[..., 3:].abs().sum(-1)
        return (growth * self.scale[..., 0] < self._largest_size).all(1)

    def decode(self, theta: Float[Tensor, "B P"]) -> Gaussians:
        """The scene at θ, in the form (covariances, or scales and quats) of the reference; differentiable."""
        parts, reference = self.split(theta), self.reference
        means, opacities, harmonics = reference.means, reference.opacities, reference.harmonics
        shape: dict[str, Tensor | None] = {
            name: getattr(reference, name) for name in ("covariances", "scales", "quats")
        }
        if "means" in parts:
            means = means + self.scale * parts["means"]
        if "covariance" in parts:
            shape = self.covariance_chart.decode(parts["covariance"])
        if "opacity" in parts:
            # sigmoid(logit o + θ), written so that θ = 0 gives o to the last digit and o = 0, 1 stay.
            growth = torch.expm1(parts["opacity"][..., 0].clamp(-LARGEST_LOGIT, LARGEST_LOGIT))
            change = opacities * (1 - opacities) * growth / (1 + opacities * growth)
            opacities = torch.where(self.opacity_moves, opacities + change, opacities)
        if "sh_dc" in parts or "sh_rest" in parts:
            harmonics = harmonics + self.harmonics_change(parts)
        return Gaussians(means, opacities=opacities, harmonics=harmonics, **shape)

    def decode_cameras(self, theta: Float[Tensor, "B P"], views: Views) -> Views:
        """The views at θ: moved if poses are among the unknowns."""
        if self.pose_chart is None:
            return views
        return views.replace(world_to_camera=self.pose_chart.decode(self.split(theta)["poses"]))

    def decode_exposure(self, theta: Float[Tensor, "B P"]) -> Exposure:
        """The exposures at θ, where they are among the unknowns."""
        return decode_exposure(self.split(theta)["exposure"])

    @cached_property
    def without_last(self) -> Coordinates:
        """The same coordinates without the last group: one that acts on images has the rendering before it."""
        rendered = copy(self)
        vars(rendered).pop("without_last", None)
        *before, _ = self.shapes.items()
        rendered.shapes = dict(before)
        rendered.num_unknowns = sum(n * d for n, d in rendered.shapes.values())
        return rendered

    def slope_of_images(self, theta: Float[Tensor, "B P"], rendering: Float[Tensor, "B V 3 H W"]) -> Tensor | None:
        """d image / d rendering at θ, number by number; None where no group acts on what is rendered."""
        slope = None
        for group, own in self.split(theta).items():
            chart = GROUPS[group].images
            if chart is not None:
                here = chart.at(own, rendering)
                slope, rendering = here.slope if slope is None else slope * here.slope, here.image
        return slope

    def encode(self, gaussians: Gaussians) -> Float[Tensor, "B P"]:
        """θ of the reference as a function of the scene it was taken from: zero, with the exact derivative.

        The chart around the reference is constant; only the network's own tensors carry gradients through this.
        """
        parts: dict[str, Tensor] = {}
        if "means" in self.shapes:
            inverse = torch.where(self.scale > 0, 1 / self.scale, 0)
            parts["means"] = (gaussians.means - self.reference.means) * inverse
        if "covariance" in self.shapes:
            parts["covariance"] = self.covariance_chart.encode(gaussians)
        if "opacity" in self.shapes:
            slope = opacity_slope(self.reference.opacities)
            inverse = torch.where(self.opacity_moves, 1 / torch.where(slope > 0, slope, 1), 0)
            parts["opacity"] = ((gaussians.opacities - self.reference.opacities) * inverse)[..., None]
        moved = (gaussians.harmonics - self.reference.harmonics) * self.movable[..., None, None]
        if "sh_dc" in self.shapes:
            parts["sh_dc"] = moved[..., 0]
        if "sh_rest" in self.shapes:
            parts["sh_rest"] = moved[..., 1:].flatten(2)
        for group, shape in self.shapes.items():
            if GROUPS[group].of_views:
                parts[group] = gaussians.means.new_zeros(self.batch_size, *shape)
        return self.join(parts)

    def apply(self, theta: Float[Tensor, "B P"], gaussians: Gaussians) -> Gaussians:
        """The scene at θ for the caller: what cannot or may not move is the caller's own tensor, gradients included."""
        decoded = self.decode(theta)
        means, opacities, harmonics = decoded.means, decoded.opacities, decoded.harmonics
        still = ~self.movable
        means = torch.where(still[..., None], gaussians.means, means) if "means" in self.shapes else gaussians.means
        opacities = (
            torch.where(self.opacity_moves, opacities, gaussians.opacities)
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
        movable = self.movable[..., None].to(self.scale.dtype)
        return torch.cat([movable, self.scale, self.covariance_chart.anchors()], -1).contiguous()

    @property
    def covariance_kind(self) -> int:
        """Which chart the covariances have, as the kernels number them."""
        return self.covariance_chart.kind

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
        return None if self.pose_chart is None else self.pose_chart.at(self.split(theta)["poses"])

    @property
    def opacity_moves(self) -> Bool[Tensor, "B N"]:
        return self.movable & (opacity_slope(self.reference.opacities) > 0)

    def harmonics_change(self, parts: dict[str, Tensor]) -> Float[Tensor, "B N 3 K"]:
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


def opacity_slope(opacities: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """d opacity / d logit."""
    return opacities * (1 - opacities)
