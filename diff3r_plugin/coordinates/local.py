"""The derivative of θ → scene at one θ."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates.coordinates import Coordinates, opacity_slope
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.linalg.small import product
from diff3r_plugin.render.linearization import GaussianGram

CORE_COLUMNS = {"means": (0, 3), "covariance": (3, 9), "opacity": (9, 10), "sh_dc": (10, 13)}
"""Where each group's numbers stand in the core of a :class:`GaussianGram`."""


class LocalCoordinates:
    """The derivative of θ → scene at one θ: ``jvp`` for tangents, ``vjp`` for cotangents, and its use on Grams.

    Args:
        coordinates: The chart.
        theta: Where, ``[B, P]``.
    """

    def __init__(self, coordinates: Coordinates, theta: Float[Tensor, "B P"]) -> None:
        self._coordinates = coordinates
        self.gaussians = coordinates.decode(theta).with_covariances()
        parts = coordinates.split(theta)
        self._covariance = coordinates.covariance_chart.at(parts["covariance"]) if "covariance" in parts else None
        self._poses = coordinates.pose_chart.at(parts["poses"]) if coordinates.pose_chart is not None else None
        slope = opacity_slope(self.gaussians.opacities)
        self._opacity_slope = torch.where(coordinates.opacity_moves, slope, 0)

    @property
    def moves_cameras(self) -> bool:
        return self._poses is not None

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Gaussians:
        """Change of the scene for a change of θ."""
        c, scene = self._coordinates, self.gaussians
        parts = c.split(tangent)
        return Gaussians(
            c.scale * parts["means"] if "means" in parts else torch.zeros_like(scene.means),
            torch.zeros_like(scene.covariance_matrices)
            if self._covariance is None
            else self._covariance.jvp(parts["covariance"]),
            self._opacity_slope * parts["opacity"][..., 0] if "opacity" in parts else torch.zeros_like(scene.opacities),
            c.harmonics_change(parts),
        )

    def jvp_cameras(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 4 4"]:
        """Change of ``world_to_camera`` for a change of θ."""
        assert self._poses is not None
        return self._poses.jvp(self._coordinates.split(tangent)["poses"])

    def vjp(self, cotangent: Gaussians, cameras: Float[Tensor, "B V 4 4"] | None = None) -> Float[Tensor, "B P"]:
        """Gradient with respect to θ from a gradient with respect to the scene (and the cameras)."""
        c = self._coordinates
        parts: dict[str, Tensor] = {}
        if "means" in c.shapes:
            parts["means"] = c.scale * cotangent.means
        if self._covariance is not None:
            parts["covariance"] = self._covariance.vjp(cotangent.covariance_matrices)
        if "opacity" in c.shapes:
            parts["opacity"] = (self._opacity_slope * cotangent.opacities)[..., None]
        harmonics = cotangent.harmonics * c.movable[..., None, None]
        if "sh_dc" in c.shapes:
            parts["sh_dc"] = harmonics[..., 0]
        if "sh_rest" in c.shapes:
            parts["sh_rest"] = harmonics[..., 1:].flatten(2)
        if self._poses is not None:
            assert cameras is not None
            parts["poses"] = self._poses.vjp(cameras)
        return c.join(parts)

    def gram_diagonal(self, gram: GaussianGram) -> Float[Tensor, "B P"]:
        """The exact diagonal of JᵀWJ in θ, never negative (0 for poses, which the Gram does not know)."""
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
                parts[g] = core.new_zeros(c.batch_size, n, d)
            else:
                first, last = CORE_COLUMNS[g]
                parts[g] = core[..., first:last] * self._slope(g) ** 2
        return c.join(parts).clamp_min(0)  # of a needle, C G Cᵀ may round to less than nothing

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
            return c.scale
        return (self._opacity_slope if group == "opacity" else c.movable.to(c.scale.dtype))[..., None]
