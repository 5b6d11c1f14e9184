"""The chart of camera poses."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.linalg.small import apply

SERIES_BELOW, TERMS = 1.0, 8
"""Squared angle (rad²) below which coefficients come from their series, and its terms: enough for the last digit."""


class PoseChart:
    """world_to_camera = Exp(θ) · reference, θ = (translation, rotation vector) in the camera frame, ``[B, V, 6]``.

    Translations are in units of the scene; ``Exp`` is the exponential map of SE(3), in closed form: with the 4 × 4
    matrix ξ of θ, Exp(θ) = 1 + ξ + b ξ² + c ξ³, and b, c functions of the angle.
    """

    def __init__(self, reference: Float[Tensor, "B V 4 4"]) -> None:
        self._reference = reference

    def decode(self, theta: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 4 4"]:
        """The cameras at θ; differentiable."""
        # In double: few numbers, and no matrix product that could be rounded to TF32.
        wide = theta.double()
        return self._decode(wide, _coefficients(wide)).to(theta.dtype)

    def _decode(self, theta: Float[Tensor, "B V 6"], coefficients: Float[Tensor, "B V 5"]) -> Float[Tensor, "B V 4 4"]:
        constants = _constants(theta.device)
        xi = (theta @ constants.generators).unflatten(-1, (4, 4))
        b, c = (coefficients[..., i, None, None] for i in (1, 2))
        exponential = constants.one4 + xi + xi @ xi @ (b * constants.one4 + c * xi)
        return exponential @ self._reference.double()

    def at(self, theta: Float[Tensor, "B V 6"]) -> LocalPose:
        """The derivative of :meth:`decode` at θ: the matrix of J dθ times the camera at θ.

        J = 1 + (2b − a/2) A + (5c − b)/2 A² + (2b − a)/2x A³ + (3c − b)/2x A⁴ with the adjoint A of θ and its squared
        angle x is the left Jacobian of SE(3) (Barfoot, State Estimation for Robotics, 7.1).
        """
        constants, wide = _constants(theta.device), theta.double()
        coefficients = _coefficients(wide)
        camera = self._decode(wide, coefficients)
        powers = coefficients @ constants.of_jacobian
        first, second, third, fourth = (powers[..., i, None, None] for i in range(4))
        A, one = (wide @ constants.adjoints).unflatten(-1, (6, 6)), constants.one6
        jacobian = one + A @ (first * one + A @ (second * one + A @ (third * one + fourth * A)))
        # Each generator times the camera: [4, 4] numbers that do not depend on what θ is.
        turned = (constants.generators.unflatten(-1, (4, 4)) @ camera[..., None, :, :]).flatten(-2)
        matrix = (turned.mT @ jacobian).unflatten(-2, (4, 4))
        return LocalPose(matrix.to(theta.dtype), camera.to(theta.dtype))


class LocalPose:
    """The derivative of θ → world_to_camera at one θ, as a tensor ``[B, V, 4, 4, 6]``.

    Attributes:
        camera: world_to_camera there, ``[B, V, 4, 4]``.
    """

    def __init__(self, matrix: Float[Tensor, "B V 4 4 6"], camera: Float[Tensor, "B V 4 4"]) -> None:
        self._matrix, self.camera = matrix, camera

    def jvp(self, tangent: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 4 4"]:
        """Change of the cameras for dθ."""
        return apply(self._matrix, tangent[..., None, :])

    def vjp(self, cotangent: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 6"]:
        """Gradient by θ from the gradient by the cameras."""
        return (self._matrix * cotangent[..., None]).sum((-3, -2))


def _coefficients(theta: Float[Tensor, "B V 6"]) -> Float[Tensor, "B V 5"]:
    """a = sin φ / φ, b = (1 − cos φ) / x, c = (1 − a) / x, (2b − a) / 2x and (3c − b) / 2x at the angle φ, x = φ²."""
    constants = _constants(theta.device)
    x = theta[..., 3:].square().sum(-1, keepdim=True)
    small = x < SERIES_BELOW
    square = torch.where(small, x, 0)
    powers = torch.cat([torch.ones_like(x), square], -1)  # doubled: derivatives of pow are not finite at zero
    while powers.shape[-1] < TERMS:
        square = square * square
        powers = torch.cat([powers, powers * square], -1)
    x = torch.where(small, 1, x)  # where no quotient loses digits
    angle = x.sqrt()
    a, b = angle.sin() / angle, (1 - angle.cos()) / x
    c = (1 - a) / x
    return torch.where(
        small, powers @ constants.series, torch.cat([a, b, c, (b - a / 2) / x, (1.5 * c - b / 2) / x], -1)
    )


@dataclass(frozen=True)
class _Constants:
    """Matrices of the closed forms, in double on one device; a factor stands right of a row of numbers.

    Args:
        generators: Of SE(3), ``[6, 16]``.
        adjoints: Of the generators, ``[6, 36]``.
        series: Of five coefficients in powers of x, ``[TERMS, 5]``.
        of_jacobian: From these five to those of the powers A to A⁴, ``[5, 4]``.
        one4, one6: Identities.
    """

    generators: Tensor
    adjoints: Tensor
    series: Tensor
    of_jacobian: Tensor
    one4: Tensor
    one6: Tensor


@functools.cache
def _constants(device: torch.device) -> _Constants:
    """Brought to a device once: every copy would make the host wait for it."""
    generators, adjoints = torch.zeros(6, 4, 4), torch.zeros(6, 6, 6)
    for axis in range(3):
        generators[axis, axis, 3] = 1
        for i, j, sign in (((axis + 1) % 3, (axis + 2) % 3, -1), ((axis + 2) % 3, (axis + 1) % 3, 1)):
            generators[3 + axis, i, j] = sign
            adjoints[3 + axis, i, j] = adjoints[3 + axis, 3 + i, 3 + j] = sign  # of a rotation
            adjoints[axis, i, 3 + j] = sign  # of a translation
    orders = range(TERMS)
    series = [[(-1) ** n / math.factorial(2 * n + k) for k in (1, 2, 3)] for n in orders]
    quotients = [[(-1) ** n * (n + 1) / math.factorial(2 * n + k) for k in (4, 5)] for n in orders]
    given = {
        "generators": generators.flatten(1),
        "adjoints": adjoints.flatten(1),
        "series": torch.tensor([a + b for a, b in zip(series, quotients, strict=True)], dtype=torch.float64),
        "of_jacobian": torch.tensor([[-0.5, 0, 0, 0], [2, -0.5, 0, 0], [0, 2.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        "one4": torch.eye(4),
        "one6": torch.eye(6),
    }
    with torch.inference_mode(False):
        return _Constants(**{name: value.to(device, torch.float64) for name, value in given.items()})
