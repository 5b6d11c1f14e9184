"""What a linearization in θ can do."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor


class ThetaLinearization(Protocol):
    """Renderings at one θ together with their Jacobian J by θ.

    Attributes:
        image: ``[B, V, 3, H, W]``.
    """

    image: Float[Tensor, "B V 3 H W"]

    def jvp(self, tangent: Float[Tensor, "B P"]) -> Float[Tensor, "B V 3 H W"]:
        """J v."""
        ...

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B P"]:
        """Jᵀ u."""
        ...

    def gradient(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """Jᵀ u + weights · (θ − center)."""
        ...

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """Σ weights · (θ − center)²."""
        ...

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P"]:
        """JᵀWJ v + diagonal · v; into ``out`` where that is given and possible."""
        ...

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        """The exact diagonal of JᵀWJ (0 for poses, which no Gram covers)."""
        ...

    def gram_blocks(
        self, pixel_weights: Float[Tensor, "B V H W"]
    ) -> tuple[Float[Tensor, "B N k k"], Int[Tensor, "N k"]]:
        """The exact per-Gaussian blocks of JᵀWJ without ``sh_rest``, and where their unknowns stand in θ."""
        ...
