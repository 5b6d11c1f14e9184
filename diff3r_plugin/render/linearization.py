"""Linearize once, apply many times: the one abstraction that solvers and gradients are built on.

``jax.linearize`` is the model: rendering a scene keeps what all later products need (projection, sorted tile
lists), and the Jacobian J of the image with respect to the Gaussians is then applied to as many vectors as
wanted, in both directions, without ever being formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians


@dataclass(frozen=True)
class GaussianGram:
    """Exact per-Gaussian blocks of JᵀWJ in the Gaussians' own parameters, summed over views and channels.

    Args:
        core: ``[B, N, 13, 13]``; rows and columns: mean x, y, z; covariance xx, xy, xz, yy, yz, zz (the six free
            numbers of a symmetric matrix: the derivative with respect to xy moves both xy and yx); opacity;
            SH degree 0 of red, green, blue.
        sh_rest: ``[B, N, 3, K - 1]``; the diagonal for SH coefficients above degree 0.
    """

    core: Float[Tensor, "B N 13 13"]
    sh_rest: Float[Tensor, "B N 3 R"]


class Linearization(Protocol):
    """A rendered image together with the Jacobian J of the image at this scene.

    Tangents and cotangents are shaped like :class:`Gaussians` (with covariances). A cotangent's covariance is the
    full symmetric matrix of derivatives.
    """

    image: Float[Tensor, "B V 3 H W"]

    def jvp(
        self, tangent: Gaussians, world_to_camera: Float[Tensor, "B V 4 4"] | None = None
    ) -> Float[Tensor, "B V 3 H W"]:
        """J v: the change of the image when the scene (and the cameras, if given) change by the tangent."""
        ...

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Gaussians:
        """Jᵀ u: the gradient of ⟨u, image⟩ with respect to the Gaussians."""
        ...

    def vjp_cameras(self, cotangent: Float[Tensor, "B V 3 H W"]) -> tuple[Gaussians, Float[Tensor, "B V 4 4"]]:
        """Like :meth:`vjp`, and the gradient with respect to ``world_to_camera`` (its last row is zero)."""
        ...

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Float[Tensor, "B V H W"]) -> Gaussians:
        """JᵀWJ v with one weight per pixel."""
        ...

    def gram(self, pixel_weights: Float[Tensor, "B V H W"]) -> GaussianGram:
        """Exact per-Gaussian blocks of JᵀWJ, from which preconditioners are made."""
        ...
