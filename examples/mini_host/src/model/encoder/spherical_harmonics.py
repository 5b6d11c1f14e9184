"""Rotation of real spherical harmonics, in the order and signs of the rasterizer this family uses."""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def harmonics_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch d_sh"]:
    """Values of the basis at unit directions, up to degree 2. The polar axis is y (e3nn's order of axes)."""
    if not 0 <= degree <= 2:
        raise ValueError(f"Spherical harmonics are there for degrees 0 to 2, got {degree}.")
    y, z, x = directions.unbind(-1)  # the usual formulas with the axes moved round: their (x, y, z) is (z, x, y) here
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * z * z - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    return torch.stack(values, -1)


def rotate_harmonics(
    coefficients: Float[Tensor, "*#batch 3 d_sh"], rotation: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch 3 d_sh"]:
    """Coefficients of the same function after its argument's frame is rotated by ``rotation``."""
    degree = round(coefficients.shape[-1] ** 0.5) - 1
    if degree == 0:
        return coefficients
    # A fixed spread of directions: the matrix is the least-squares fit between both bases, which is exact.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn((4 * coefficients.shape[-1], 3), generator=generator)
    directions = (directions / directions.norm(dim=-1, keepdim=True)).to(coefficients)
    inverse = torch.linalg.pinv(harmonics_basis(directions, degree))
    turned = harmonics_basis(directions @ rotation, degree)  # basis at R^T d
    return einsum(inverse @ turned, coefficients, "... i j, ... c j -> ... c i")
