"""The SH basis is orthonormal, and coefficients change basis exactly."""

import numpy as np
import pytest
import torch

from diff3r_plugin.render.spherical_harmonics import from_e3nn_order, spherical_harmonics_basis, to_e3nn_order


def quadrature():
    """Directions and weights that integrate polynomials up to degree 20 on the sphere."""
    heights, weights = np.polynomial.legendre.leggauss(12)
    angles = np.arange(24) / 24 * 2 * np.pi
    z, phi = np.meshgrid(heights, angles, indexing="ij")
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(phi), radius * np.sin(phi), z], -1).reshape(-1, 3)
    return torch.tensor(directions), torch.tensor(np.repeat(weights, 24) * 2 * np.pi / 24)


def test_basis_is_orthonormal():
    directions, weights = quadrature()
    basis = spherical_harmonics_basis(directions, 4)
    torch.testing.assert_close(basis.T @ (weights[:, None] * basis), torch.eye(25, dtype=torch.float64))


def test_signs_of_the_first_band_are_those_of_gaussian_splatting():
    basis = spherical_harmonics_basis(torch.eye(3, dtype=torch.float64), 1)[:, 1:]
    signs = torch.tensor([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(basis, 0.4886025119029199 * signs)


@pytest.mark.parametrize("degree", range(5))
def test_e3nn_order_is_the_basis_at_permuted_directions(degree):
    directions, _ = quadrature()
    coefficients = torch.randn(7, (degree + 1) ** 2, dtype=torch.float64)
    expected = spherical_harmonics_basis(directions[:, [2, 0, 1]], degree) @ coefficients.T
    converted = from_e3nn_order(coefficients)
    torch.testing.assert_close(spherical_harmonics_basis(directions, degree) @ converted.T, expected)
    torch.testing.assert_close(to_e3nn_order(converted), coefficients)


def test_degree_out_of_range_is_named():
    with pytest.raises(ValueError, match="got 5"):
        spherical_harmonics_basis(torch.zeros(3), 5)
