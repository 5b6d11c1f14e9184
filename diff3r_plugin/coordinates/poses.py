"""The chart of camera poses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.linalg.small import apply, product


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

    def jvp(self, tangent: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 4 4"]:
        """Change of the cameras for dθ."""
        return apply(self._matrix, tangent[..., None, :])

    def vjp(self, cotangent: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 6"]:
        """Gradient by θ from the gradient by the cameras."""
        return (self._matrix * cotangent[..., None]).sum((-3, -2))


def _se3_generators(like: Tensor) -> Float[Tensor, "6 4 4"]:
    generators = torch.zeros(6, 4, 4, dtype=like.dtype, device=like.device)
    for axis in range(3):
        generators[axis, axis, 3] = 1
        i, j = (axis + 1) % 3, (axis + 2) % 3
        generators[3 + axis, j, i] = 1
        generators[3 + axis, i, j] = -1
    return generators
