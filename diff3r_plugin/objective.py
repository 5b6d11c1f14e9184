"""The inner problem: E(θ) = ½ Σ_k w_k r_k(θ)² + ½ Σ_i Λ_i (θ_i − θ0_i)², r = picture − photograph.

A sum of squares, not a mean, so that the proximal weights Λ do not change meaning with resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.linalg import BlockJacobi, Jacobi
from diff3r_plugin.render import GaussianGram, linearize, render
from diff3r_plugin.views import Views


class Objective:
    """E for a batch of scenes, each on its own.

    Args:
        coordinates: The map from θ to scenes.
        views: Cameras with their photographs.
        theta0: Where the proximal term pulls to, ``[B, P]``.
        proximal_weights: Λ, ``[B, P]``, positive.
        pixel_weights: w, ``[B, V, H, W]``, not negative; one by default.
        backend: Render backend.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        views: Views,
        theta0: Float[Tensor, "B P"],
        proximal_weights: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"] | None = None,
        backend: str = "auto",
    ) -> None:
        if views.images is None:
            raise ValueError("The inner problem compares pictures with photographs: these Views have no images.")
        self.coordinates, self.views, self.backend = coordinates, views, backend
        self.images = views.images
        self.theta0, self.proximal_weights = theta0, proximal_weights
        if pixel_weights is None:
            pixel_weights = torch.ones_like(views.images[:, :, 0])
        self.pixel_weights = pixel_weights

    @cached_property
    def scale(self) -> Float[Tensor, "B"]:
        """The data energy of a black picture: what a gradient is measured against to be called zero."""
        with torch.no_grad():
            return 0.5 * (self.pixel_weights[:, :, None] * self.images**2).flatten(1).sum(-1)

    def energy(self, theta: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
        """E of every scene."""
        scene = self.coordinates.decode(theta)
        return self._energy(theta, render(scene, self.coordinates.decode_cameras(theta, self.views), self.backend))

    def linearize(self, theta: Float[Tensor, "B P"]) -> LinearizedObjective:
        """E of every scene, with its gradient and Gauss-Newton products at θ."""
        return LinearizedObjective(self, theta)

    def proximal(self, theta: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
        """The proximal half of E."""
        return 0.5 * (self.proximal_weights * (theta - self.theta0) ** 2).sum(-1)

    def _energy(self, theta: Tensor, picture: Tensor) -> Tensor:
        squared = (picture - self.images) ** 2
        return 0.5 * (self.pixel_weights[:, :, None] * squared).flatten(1).sum(-1) + self.proximal(theta)


class LinearizedObjective:
    """E near one θ: value, gradient and the Gauss-Newton matrix H = JᵀWJ + Λ as an operator.

    Args:
        objective: E.
        theta: Where, ``[B, P]``.
    """

    def __init__(self, objective: Objective, theta: Float[Tensor, "B P"]) -> None:
        self.objective, self.theta = objective, theta
        self._local = objective.coordinates.at(theta)
        cameras = objective.coordinates.decode_cameras(theta, objective.views)
        self._render = linearize(self._local.gaussians, cameras, objective.backend)
        self.residual: Float[Tensor, "B V 3 H W"] = self._render.image - objective.images
        self.energy: Float[Tensor, "B"] = objective._energy(theta, self._render.image)

    @cached_property
    def gradient(self) -> Float[Tensor, "B P"]:
        """∇E = Jᵀ W r + Λ (θ − θ0)."""
        objective = self.objective
        data = self.pull(objective.pixel_weights[:, :, None] * self.residual)
        return data + objective.proximal_weights * (self.theta - objective.theta0)

    def push(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        """J v: change of the pictures."""
        cameras = self._local.push_cameras(tangent) if self._local.moves_cameras else None
        return self._render.jvp(self._local.push(tangent), cameras)

    def pull(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        """Jᵀ u."""
        if self._local.moves_cameras:
            return self._local.pull(*self._render.vjp_cameras(cotangent))
        return self._local.pull(self._render.vjp(cotangent))

    def gauss_newton_product(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """H v = JᵀWJ v + Λ v."""
        weights = self.objective.pixel_weights
        if self._local.moves_cameras:
            product = self.pull(weights[:, :, None] * self.push(tangent))
        else:
            scene = self._render.gauss_newton_product(self._local.push(tangent), weights)
            product = self._local.pull(scene)
        return torch.addcmul(product, self.objective.proximal_weights, tangent)

    @cached_property
    def gram(self) -> GaussianGram:
        """Exact per-Gaussian blocks of JᵀWJ; costs about two products, so it is made when first asked for."""
        return self._render.gram(self.objective.pixel_weights)

    @cached_property
    def diagonal(self) -> Float[Tensor, "B P"]:
        """The exact diagonal of H (for poses, which no Gram covers, of Λ only), without a graph."""
        with torch.no_grad():  # preconditioners and damping shape the path, not the solution
            return self._local.gram_diagonal(self.gram) + self.objective.proximal_weights

    def preconditioner(
        self, kind: str, shift: Float[Tensor, "B P"] | None = None, gram: GaussianGram | None = None
    ) -> Callable[[Tensor], Tensor] | None:
        """An approximate inverse of H + diag(shift): "jacobi", "block_jacobi" or "none".

        ``gram`` may come from a point nearby, where it is known already; by default it is made here.
        """
        if kind == "none":
            return None
        with torch.no_grad():
            weights = self.objective.proximal_weights
            added = weights if shift is None else weights + shift
            if kind == "jacobi" and gram is None:
                return Jacobi(self.diagonal if shift is None else self.diagonal + shift)
            gram = gram or self.gram
            diagonal = self._local.gram_diagonal(gram) + added
            if kind == "jacobi":
                return Jacobi(diagonal)
            blocks, unknowns = self._local.gram_blocks(gram)
            added = added[:, unknowns.reshape(-1)].unflatten(-1, unknowns.shape)
            return BlockJacobi(diagonal, blocks + torch.diag_embed(added), unknowns)
