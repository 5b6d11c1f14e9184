"""The chart of camera poses against the exponential of matrices."""

import pytest
import torch

from diff3r_plugin.coordinates.poses import PoseChart


def generators() -> torch.Tensor:
    """Of SE(3): three translations, then three rotations."""
    matrices = torch.zeros(6, 4, 4, dtype=torch.float64)
    for axis in range(3):
        matrices[axis, axis, 3] = 1
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrices[3 + axis, j, i], matrices[3 + axis, i, j] = 1, -1
    return matrices


def by_matrix_exponential(theta, reference):
    return torch.linalg.matrix_exp((theta[..., None, None] * generators()).sum(-3)) @ reference


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 0.3, 0.55, 0.6, 1.0, 3.0, 6.0])
def test_poses_and_their_derivative_are_those_of_the_matrix_exponential(size):
    """Over the border between the series and the quotients, and beyond half a turn."""
    theta, reference = size * torch.randn(3, 5, 6, dtype=torch.float64), torch.randn(3, 5, 4, 4, dtype=torch.float64)
    chart = PoseChart(reference)
    torch.testing.assert_close(chart.decode(theta), by_matrix_exponential(theta, reference), rtol=1e-12, atol=1e-12)
    local = chart.at(theta)
    assert torch.equal(local.camera, chart.decode(theta))
    tangent = torch.randn_like(theta)
    _, expected = torch.func.jvp(lambda t: by_matrix_exponential(t, reference), (theta,), (tangent,))
    torch.testing.assert_close(local.jvp(tangent), expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(expected)
    torch.testing.assert_close((local.vjp(cotangent) * tangent).sum(), (cotangent * expected).sum())


def test_nothing_moves_at_zero_to_the_last_digit():
    reference = torch.randn(1, 2, 4, 4)
    assert torch.equal(PoseChart(reference).decode(torch.zeros(1, 2, 6)), reference)


@pytest.mark.parametrize("size", [0.0, 0.3, 2.0])
def test_poses_can_be_differentiated_twice(size):
    theta = (size * torch.randn(1, 2, 6, dtype=torch.float64)).requires_grad_()
    chart = PoseChart(torch.randn(1, 2, 4, 4, dtype=torch.float64))
    assert torch.autograd.gradcheck(chart.decode, (theta,))
    assert torch.autograd.gradgradcheck(chart.decode, (theta,))
