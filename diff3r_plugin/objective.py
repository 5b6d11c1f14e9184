"""The inner problem: E(θ) = ½ Σ_k w_k r_k(θ)² + ½ Σ_i Λ_i (θ_i − θ0_i)², r = rendering − image.

A sum of squares, not a mean, so that the proximal weights Λ do not change meaning with resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.linalg import BlockJacobi, Jacobi
from diff3r_plugin.linalg.recycled import added
from diff3r_plugin.linearized import linearize_theta
from diff3r_plugin.views import Views


class Objective:
    """E for a batch of scenes, each on its own.

    Args:
        coordinates: The map from θ to scenes.
        views: Cameras with their images.
        theta0: Where the proximal term pulls to, ``[B, P]``.
        proximal_weights: Λ, ``[B, P]``, positive.
        pixel_weights: w, ``[B, V, H, W]``, not negative; one by default.
        backend: Render backend.
        displayed: Compare what a screen shows: a rendering brighter than one counts as one, as in PSNR. The Jacobian
            stays that of the rendering: where the image is darker, the gradient still leads back into the range.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        views: Views,
        theta0: Float[Tensor, "B P"],
        proximal_weights: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"] | None = None,
        backend: str = "auto",
        displayed: bool = False,
    ) -> None:
        if views.images is None:
            raise ValueError("The inner problem compares renderings with images: these Views have no images.")
        self.coordinates, self.views, self.backend = coordinates, views, backend
        self.images, self.displayed = views.images, displayed
        self.theta0, self.proximal_weights = theta0, proximal_weights
        if pixel_weights is None:
            pixel_weights = torch.ones_like(views.images[:, :, 0])
        self.pixel_weights = pixel_weights

    @cached_property
    def scale(self) -> Float[Tensor, " B"]:
        """The data energy of a black rendering: what a gradient is measured against to be called zero."""
        with torch.no_grad():
            return 0.5 * (self.pixel_weights[:, :, None] * self.images**2).flatten(1).sum(-1)

    def energy(self, theta: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """E of every scene."""
        return self.linearize(theta).energy

    def linearize(self, theta: Float[Tensor, "B P"]) -> LinearizedObjective:
        """E of every scene, with its gradient and Gauss-Newton products at θ."""
        return LinearizedObjective(self, theta)

    def _data_energy(self, residual: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, " B"]:
        return 0.5 * (self.pixel_weights[:, :, None] * residual**2).flatten(1).sum(-1)


@dataclass(frozen=True)
class ThetaGram:
    """What is known of JᵀWJ at one θ.

    Args:
        diagonal: ``[B, P]``.
        blocks: ``[B, N, k, k]`` and the positions ``[N, k]`` of their unknowns in θ; None where nobody has asked.
    """

    diagonal: Float[Tensor, "B P"]
    blocks: tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]] | None


class LinearizedObjective:
    """E near one θ: value, gradient and the Gauss-Newton matrix H = JᵀWJ + Λ as an operator.

    Args:
        objective: E.
        theta: Where, ``[B, P]``.
    """

    def __init__(self, objective: Objective, theta: Float[Tensor, "B P"]) -> None:
        self.objective, self.theta = objective, theta
        self._render = linearize_theta(objective.coordinates, theta, objective.views, objective.backend)
        rendered = self._render.image.clamp(max=1.0) if objective.displayed else self._render.image
        self.residual: Float[Tensor, "B V 3 H W"] = rendered - objective.images
        proximal = self._render.weighted_distance(objective.proximal_weights, objective.theta0)
        energy = objective._data_energy(self.residual) + 0.5 * proximal
        self.energy: Float[Tensor, " B"] = torch.where(objective.coordinates.representable(theta), energy, torch.inf)

    @cached_property
    def gradient(self) -> Float[Tensor, "B P"]:
        """∇E = Jᵀ W r + Λ (θ − θ0)."""
        objective = self.objective
        cotangent = objective.pixel_weights[:, :, None] * self.residual
        return self._render.gradient(cotangent, objective.proximal_weights, objective.theta0)

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        """J v: change of the renderings."""
        return self._render.jvp(tangent)

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        """Jᵀ u."""
        return self._render.vjp(cotangent)

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        diagonal: Float[Tensor, "B P"] | None = None,
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        """H v = JᵀWJ v + Λ v.

        Args:
            tangent: v.
            diagonal: In place of Λ: Λ plus a damping, say.
            out: Room for the result; not always used.
        """
        objective = self.objective
        weights = objective.proximal_weights if diagonal is None else diagonal
        return self._render.gauss_newton_product(tangent, objective.pixel_weights, weights, out)

    @cached_property
    def _data_diagonal(self) -> Float[Tensor, "B P"]:
        with torch.no_grad():  # preconditioners and damping shape the path, not the solution
            return self._render.gram_diagonal(self.objective.pixel_weights)

    @cached_property
    def _data_blocks(self) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        with torch.no_grad():
            return self._render.gram_blocks(self.objective.pixel_weights)

    def gram_for(self, preconditioner: str) -> ThetaGram:
        """What damping and a preconditioner of this kind need to know of JᵀWJ; costs about two products at first."""
        blocks = self._data_blocks if preconditioner == "block_jacobi" else None
        return ThetaGram(self._data_diagonal, blocks)

    @property
    def diagonal(self) -> Float[Tensor, "B P"]:
        """The exact diagonal of H (for poses, which no Gram covers, of Λ only), without a graph."""
        return self._data_diagonal + self.objective.proximal_weights.detach()

    def system(
        self, kind: str, diagonal: Float[Tensor, "B P"] | None = None, gram: ThetaGram | None = None
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]:
        """What PCG solves: :meth:`gauss_newton_product` with a diagonal, and :meth:`preconditioner` with the same.

        On a GPU each product may lie where the one before it lay.
        """
        # A CPU's kernels hand out memory that was used before; PyTorch's allocator would be asked at every iteration.
        buffer = torch.empty_like(self.theta) if self.theta.is_cuda and not torch.is_grad_enabled() else None
        product = partial(self.gauss_newton_product, diagonal=diagonal, out=buffer)
        return product, self.preconditioner(kind, diagonal, gram)

    def preconditioner(
        self, kind: str, diagonal: Float[Tensor, "B P"] | None = None, gram: ThetaGram | None = None
    ) -> Callable[[Tensor], Tensor] | None:
        """An approximate inverse of what :meth:`gauss_newton_product` multiplies by.

        Args:
            kind: "jacobi", "block_jacobi" or "none".
            diagonal: As there.
            gram: May come from a point nearby, where it is known already; what it lacks is made here.
        """
        if kind == "none":
            return None
        with torch.no_grad():
            weights = self.objective.proximal_weights if diagonal is None else diagonal
            data = self._data_diagonal if gram is None else gram.diagonal
            if kind == "jacobi":
                return Jacobi(data, weights)
            near = gram.blocks if gram is not None and gram.blocks is not None else self._data_blocks
            blocks, unknowns = near
            shifts = weights[:, unknowns.reshape(-1)].unflatten(-1, unknowns.shape)
            return BlockJacobi(added(data, weights), blocks + torch.diag_embed(shifts), unknowns)
