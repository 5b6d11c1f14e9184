"""Conjugate gradients against dense solves, and what they do when the matrix is not what they need."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.linalg import BlockJacobi, Jacobi, PCGReason, pcg


def systems(batch=3, size=12, condition=100.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(batch, size, size, generator=generator, dtype=torch.float64))[0]
    values = torch.logspace(0, torch.log10(torch.tensor(condition)).item(), size, dtype=torch.float64)
    A = basis @ torch.diag(values) @ basis.mT
    return A, torch.randn(batch, size, generator=generator, dtype=torch.float64)


def product(A):
    return lambda v: (A @ v[..., None])[..., 0]


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 4), size=st.integers(1, 20), seed=st.integers(0, 1000))
def test_solves_what_a_dense_solver_solves(batch, size, seed):
    A, b = systems(batch, size, seed=seed)
    result = pcg(product(A), b, max_iterations=4 * size, tolerance=1e-10)
    torch.testing.assert_close(result.solution, torch.linalg.solve(A, b), rtol=1e-6, atol=1e-8)
    assert set(result.reasons) == {PCGReason.CONVERGED}
    assert (result.relative_residual <= 1e-10).all()


@pytest.mark.parametrize("kind", ["jacobi", "block"])
def test_preconditioners_change_the_path_not_the_solution(kind):
    A, b = systems(size=12)
    scale = torch.logspace(-2, 2, 12, dtype=torch.float64)
    A = scale[:, None] * A * scale
    diagonal = A.diagonal(dim1=-2, dim2=-1)
    unknowns = torch.arange(12).reshape(3, 4)
    blocks = torch.stack([A[:, 4 * i : 4 * i + 4, 4 * i : 4 * i + 4] for i in range(3)], 1)
    preconditioner = Jacobi(diagonal) if kind == "jacobi" else BlockJacobi(diagonal, blocks, unknowns)
    options = dict(max_iterations=400, tolerance=1e-12)
    plain, helped = pcg(product(A), b, **options), pcg(product(A), b, preconditioner=preconditioner, **options)
    torch.testing.assert_close(helped.solution, torch.linalg.solve(A, b), rtol=1e-6, atol=1e-9)
    assert (helped.iterations < plain.iterations).all()


def test_a_diagonal_of_zero_divides_by_one():
    """So that an unknown that nothing depends on stays where it is."""
    assert Jacobi(torch.tensor([[0.0, 2.0, -1.0]]))(torch.ones(1, 3)).tolist() == [[1.0, 0.5, 1.0]]
    assert Jacobi(torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 2.0]]))(torch.ones(1, 2)).tolist() == [[0.25, 0.25]]


def test_block_jacobi_is_exact_on_block_diagonal_matrices():
    A, b = systems(size=4)
    result = pcg(
        product(A),
        b,
        preconditioner=BlockJacobi(A.diagonal(dim1=-2, dim2=-1), A[:, None], torch.arange(4)[None]),
        tolerance=1e-9,
    )
    assert (result.iterations == 1).all() and result.reasons[0] is PCGReason.CONVERGED


def test_block_that_cannot_be_inverted_falls_back_to_its_diagonal():
    block = torch.tensor([[[[1.0, 2.0], [2.0, 1.0]]]])
    inverse = BlockJacobi(torch.tensor([[4.0, 4.0]]), block, torch.tensor([[0, 1]]))
    torch.testing.assert_close(inverse(torch.ones(1, 2)), torch.ones(1, 2))


def test_a_batch_is_solved_as_its_members_alone():
    A, b = systems(batch=3, condition=1e4)
    A[1] = torch.eye(12)  # done after one iteration; must not move while the others go on
    together = pcg(product(A), b, max_iterations=15, tolerance=1e-8)
    for i in range(3):
        alone = pcg(product(A[i : i + 1]), b[i : i + 1], max_iterations=15, tolerance=1e-8)
        torch.testing.assert_close(together.solution[i], alone.solution[0])
        assert together.iterations[i] == alone.iterations[0]
        assert together.reasons[i] is alone.reasons[0]
    assert together.iterations[1] == 1


def test_reports_the_true_residual():
    A, b = systems(condition=1e3)
    result = pcg(product(A), b, max_iterations=5, tolerance=1e-12, stabilize_every=2)
    true = (b - product(A)(result.solution)).norm(dim=-1) / b.norm(dim=-1)
    torch.testing.assert_close(result.relative_residual, true)
    assert set(result.reasons) == {PCGReason.MAX_ITERATIONS} and (result.iterations == 5).all()


def test_true_residual_keeps_float32_honest():
    A, b = systems(size=40, condition=1e3)
    A, b = A.float(), b.float()

    def solve(stabilize_every):
        result = pcg(product(A), b, max_iterations=200, tolerance=1e-6, stabilize_every=stabilize_every)
        true = (b - product(A)(result.solution)).norm(dim=-1) / b.norm(dim=-1)
        return result, true

    drifted, true = solve(stabilize_every=0)
    assert (true > 5 * drifted.relative_residual).all()  # the recurrence believes more than is true
    honest, true = solve(stabilize_every=10)
    assert (true < 2 * honest.relative_residual).all()


def test_trouble_stays_in_its_system():
    A, b = systems(batch=4)
    A[1] = -A[1]
    b[2, 3] = float("nan")
    b[3] = 0
    result = pcg(product(A), b, max_iterations=50, tolerance=1e-10)
    assert result.reasons == (
        PCGReason.CONVERGED,
        PCGReason.NON_POSITIVE_CURVATURE,
        PCGReason.NON_FINITE,
        PCGReason.CONVERGED,
    )
    torch.testing.assert_close(result.solution[0], torch.linalg.solve(A[0], b[0]))
    assert (result.solution[[1, 2, 3]] == 0).all()
    assert result.relative_residual[3] == 0


def test_starting_point_is_used():
    A, b = systems()
    exact = torch.linalg.solve(A, b)
    result = pcg(product(A), b, x0=exact, tolerance=1e-8)
    assert (result.iterations == 0).all() and set(result.reasons) == {PCGReason.CONVERGED}


def test_can_be_differentiated_through():
    A, b = systems(batch=2, size=5, condition=5)
    weight = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    b = b.requires_grad_()

    def solve(weight, b):
        result = pcg(
            lambda v: product(A)(v) + weight * v, b, preconditioner=Jacobi(1 + weight), max_iterations=30, tolerance=0
        )
        return result.solution

    assert torch.autograd.gradcheck(solve, (weight, b), atol=1e-5)


@pytest.mark.parametrize(("b", "options"), [(torch.ones(3), {}), (torch.ones(1, 3), {"tolerance": -1.0})])
def test_bad_calls_are_named(b, options):
    with pytest.raises(ValueError, match=r"\[3\]|-1"):
        pcg(lambda v: v, b, **options)
