"""The fused vector work of conjugate gradients does what PyTorch's operations do; its kernels run on a CPU here."""

import subprocess
import sys

import gsplat_on_cpu
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.linalg import BlockJacobi, Jacobi, PCGReason, device_pcg
from diff3r_plugin.linalg.pcg import solve
from diff3r_plugin.linalg.vector_updates import FusedUpdates, TorchUpdates, on_cpu, updates_for

SETTINGS = dict(max_iterations=60, tolerance=1e-7, stabilize_every=10)


@pytest.fixture
def fused():
    """The CPU's updates for a preconditioner."""

    def made(preconditioner, dtype=torch.float64) -> FusedUpdates:
        library = library_cpu.load()
        if library is None:
            pytest.skip("no C++ compiler here")
        return FusedUpdates(preconditioner, on_cpu(library.by_dtype[dtype]), library.empty)

    return made


def on_cpu_or_in_pytorch(updates):
    """Solves with updates for its preconditioner."""

    def run(product, b, x0, preconditioner, dtype, **settings):
        return solve(product, b, x0, updates(preconditioner, dtype), **settings)

    return run


def on_device(product, b, x0, preconditioner, dtype, **settings):
    """Solves by the GPU's kernels, which run on this CPU."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    launch = device_pcg.launcher(gsplat_on_cpu.kernels(dtype), lambda device: 0)
    return device_pcg.solve(launch, product, b, x0, preconditioner, *settings.values())


@pytest.fixture(params=["device", "cpu", "torch"])
def solving(request, fused):
    """A whole solve: product, b, x0, preconditioner, dtype, settings."""
    if request.param == "device":
        return on_device
    return on_cpu_or_in_pytorch(
        fused if request.param == "cpu" else lambda preconditioner, dtype: TorchUpdates(preconditioner)
    )


def systems(batch, size, seed):
    """Diagonally dominant, so that a diagonal preconditioner matters."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.randn(batch, size, size, generator=generator, dtype=torch.float64)
    scale = torch.logspace(-0.5, 0.5, size, dtype=torch.float64)
    A = scale[:, None] * (torch.eye(size) + noise @ noise.mT / size) * scale
    return A, torch.randn(batch, size, generator=generator, dtype=torch.float64)


def by(A, b, solving, preconditioner=None, **changes):
    product = lambda v: (A @ v[..., None])[..., 0]  # noqa: E731
    return solving(product, b, None, preconditioner, b.dtype, **{**SETTINGS, **changes})


def plainly(*arguments, **settings):
    """By PyTorch's operations."""
    return on_cpu_or_in_pytorch(lambda preconditioner, dtype: TorchUpdates(preconditioner))(*arguments, **settings)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 3), size=st.integers(1, 30), seed=st.integers(0, 99), conditioned=st.booleans())
def test_fused_and_plain_take_the_same_path(solving, batch, size, seed, conditioned):
    A, b = systems(batch, size, seed)
    preconditioner = Jacobi(A.diagonal(dim1=-2, dim2=-1)) if conditioned else None
    result = by(A, b, solving, preconditioner)
    exact = torch.linalg.solve(A, b)
    assert ((result.solution - exact).norm(dim=-1) <= 1e-3 * exact.norm(dim=-1)).all()
    assert set(result.reasons) == {PCGReason.CONVERGED}
    torch.testing.assert_close(result.relative_residual, result.residual.norm(dim=-1) / b.norm(dim=-1))
    # Their sums round differently. Later on that costs conjugacy, and with it iterations; the first ones must agree.
    ours, plain = (by(A, b, kind, preconditioner, max_iterations=4) for kind in (solving, plainly))
    assert torch.equal(ours.iterations, plain.iterations) and torch.equal(ours.reason_codes, plain.reason_codes)
    torch.testing.assert_close(ours.solution, plain.solution, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.residual, plain.residual, rtol=1e-9, atol=1e-9)


def test_vectors_of_many_blocks(solving):
    """More unknowns than one block of threads handles, and no multiple of it."""
    b = torch.randn(2, 3 * 1024 + 17, dtype=torch.float64)
    diagonal = 1 + torch.rand_like(b)
    ours = solving(lambda v: diagonal * v, b, None, None, b.dtype, **SETTINGS)
    torch.testing.assert_close(ours.solution, b / diagonal, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("value, reason", [(float("nan"), PCGReason.NON_FINITE), (float("inf"), PCGReason.NON_FINITE)])
def test_a_system_that_breaks_ends_at_its_last_good_iterate_and_disturbs_no_other(solving, at, value, reason):
    A, b = systems(2, 12, 0)
    calls = 0

    def breaking(v):
        nonlocal calls
        calls += 1
        product = (A @ v[..., None])[..., 0]
        if calls > at:
            product[0, 0] = value * v[0, 0].sign()  # a curvature of +inf, too, is none
        return product

    preconditioner = Jacobi(A.diagonal(dim1=-2, dim2=-1))
    ours = solving(breaking, b, None, preconditioner, b.dtype, **SETTINGS)
    assert ours.solution.isfinite().all() and ours.residual.isfinite().all()
    assert ours.reasons == (reason, PCGReason.CONVERGED) and ours.iterations[0] == at
    torch.testing.assert_close(ours.solution[1], torch.linalg.solve(A[1], b[1]), rtol=1e-5, atol=1e-6)


def test_negative_curvature_is_called_so(solving):
    b = torch.tensor([[1.0, 2.0], [1.0, 0.0]], dtype=torch.float64)
    diagonal = torch.tensor([[1.0, -3.0], [2.0, 2.0]], dtype=torch.float64)
    result = solving(lambda v: diagonal * v, b, None, None, b.dtype, **SETTINGS)
    assert result.reasons == (PCGReason.NON_POSITIVE_CURVATURE, PCGReason.CONVERGED)
    assert result.solution.tolist() == [[0.0, 0.0], [0.5, 0.0]] and result.iterations.tolist() == [0, 1]


def test_a_residual_that_overflows_takes_its_step_back(solving):
    """Here the product and its curvature are finite, and only the new residual is not."""
    b = torch.tensor([[1.0, 0.0], [1.0, 2.0]])

    def product(v):
        return torch.stack([torch.stack([v[0, 0], 1e30 * v[0, 0]]), 2 * v[1]])

    result = solving(product, b, None, None, torch.float32, **SETTINGS)
    assert result.reasons == (PCGReason.NON_FINITE, PCGReason.CONVERGED)
    assert result.solution.tolist() == [[0.0, 0.0], [0.5, 1.0]]
    assert result.residual[0].tolist() == [1.0, 0.0]


def test_a_system_that_has_ended_multiplies_nothing_but_numbers(solving):
    """A right-hand side of zero has ended at the start: its next direction is no quotient of zeros."""
    A, b = systems(2, 12, 0)
    b[0] = 0
    seen = []

    def product(v):
        seen.append(v.isfinite().all())
        return (A @ v[..., None])[..., 0]

    result = solving(product, b, None, None, b.dtype, **SETTINGS)
    assert all(seen) and len(seen) > 3
    assert (result.solution[0] == 0).all() and result.iterations[0] == 0 and result.relative_residual[0] == 0


def test_a_residual_that_has_drifted_is_replaced(solving):
    """The products of the first iterations were wrong; every tenth iteration looks."""
    A, b = systems(2, 60, 3)
    calls = 0

    def product(v):
        nonlocal calls
        calls += 1
        right = (A @ v[..., None])[..., 0]
        return torch.cat([right[:1] * (1.5 if calls < 4 else 1), right[1:]])

    for every, is_true in ((10, [True, True]), (0, [False, True])):
        ten = dict(max_iterations=10, tolerance=0.0, stabilize_every=every)
        result = solving(product, b, None, None, b.dtype, **ten)
        truth = b - (A @ result.solution[..., None])[..., 0]
        assert ((result.residual - truth).norm(dim=-1) < 1e-9).tolist() == is_true
        calls = 0


@pytest.mark.parametrize("iterations", [0, 1])
def test_few_iterations(solving, iterations):
    A, b = systems(2, 5, 1)
    ours, plain = (by(A, b, kind, max_iterations=iterations) for kind in (solving, plainly))
    for name in ("solution", "residual", "iterations", "relative_residual", "reason_codes"):
        torch.testing.assert_close(getattr(ours, name), getattr(plain, name))


def test_float32_sums_in_double(fused):
    """A sum of a hundred thousand equal numbers in float32 would be off by more than its rounding."""
    r = torch.full((1, 100_000), 0.1, dtype=torch.float32)
    measured = fused(None, torch.float32).measure(r)
    assert abs(measured.squared.item() / (100_000 * 0.1**2) - 1) < 1e-6


def test_vectors_of_a_solve_need_not_be_contiguous(solving):
    """A caller's right-hand side may be a slice, and a product may come transposed."""
    wide = torch.randn(2, 24, dtype=torch.float64)
    b, diagonal = wide[:, ::2], 1 + torch.rand(12, 2, dtype=torch.float64)
    ours = solving(lambda v: (diagonal * v.T).T, b, None, None, b.dtype, **SETTINGS)
    torch.testing.assert_close(ours.solution, b / diagonal.T, rtol=1e-5, atol=1e-6)


def test_vectors_of_an_update_need_not_be_contiguous(fused):
    updates = fused(None)
    good, old = torch.tensor([True, False]), torch.zeros(3, 2).double().T
    new = updates.restore(good, updates.measure(torch.ones(3, 2).double().T), old)
    assert new.r.tolist() == [[1.0] * 3, [0.0] * 3]
    once = torch.ones(2, dtype=torch.float64)
    measured = updates.advance(torch.ones(3, 2).double().T, torch.full((3, 2), 2.0).double().T, once)
    assert measured.r.tolist() == [[-1.0] * 3] * 2 and measured.squared.tolist() == [3.0, 3.0]


def test_a_step_of_zero_reads_no_direction(fused):
    """What has broken down may leave anything in its direction."""
    updates = fused(None)
    now = updates.measure(torch.ones(2, 3, dtype=torch.float64))
    x, p = updates.start(now, None)
    assert x.tolist() == [[0.0] * 3] * 2 and p.tolist() == [[1.0] * 3] * 2
    p[0] = float("nan")
    steps = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert updates.step(x, p, steps).tolist() == [[0.0] * 3, [2.0] * 3]
    x, p = updates.follow(x, p, now, steps, steps)
    assert x.tolist() == [[0.0] * 3, [4.0] * 3] and p.tolist() == [[1.0] * 3, [3.0] * 3]


def test_a_start_is_the_callers(solving):
    A, b = systems(2, 12, 0)
    start = torch.randn_like(b)
    before = start.clone()
    ours = solving(lambda v: (A @ v[..., None])[..., 0], b, start, None, b.dtype, **SETTINGS)
    torch.testing.assert_close(ours.solution, torch.linalg.solve(A, b), rtol=1e-5, atol=1e-6)
    assert torch.equal(start, before)


def test_iterations_after_the_second_take_no_memory(fused):
    A, b = systems(1, 20, 0)
    preconditioner = Jacobi(A.diagonal(dim1=-2, dim2=-1))
    updates = fused(preconditioner)
    made = []
    updates._empty = lambda shape, dtype: made.append(torch.empty(shape, dtype=dtype)) or made[-1]
    right = b.clone()
    by(A, b, on_cpu_or_in_pytorch(lambda *given: updates), preconditioner, tolerance=0.0, max_iterations=9)
    assert len(made) == 4, "one buffer for x, one for the direction, two for r"
    assert torch.equal(b, right), "the right-hand side is the caller's"


def test_only_what_the_kernels_can_do_goes_to_them(monkeypatch):
    b = torch.ones(1, 4)
    block = BlockJacobi(b, torch.eye(2)[None, None], torch.arange(2)[None])
    assert isinstance(updates_for(b, block), TorchUpdates)
    assert isinstance(updates_for(b.clone().requires_grad_(), None), TorchUpdates), "autograd has to follow"
    assert isinstance(updates_for(b.half(), None), TorchUpdates)
    monkeypatch.setattr(library_cpu, "load", lambda: None)
    assert isinstance(updates_for(b, None), TorchUpdates), "nothing is compiled for this"


def test_sums_do_not_depend_on_what_has_loaded_kernels_before():
    script = """
import torch
{before}
from diff3r_plugin.linalg import pcg
generator = torch.Generator().manual_seed(3)
A, b = torch.rand(1, 4001, generator=generator) + 0.1, torch.randn(1, 4001, generator=generator)
print(pcg(lambda v: A * v, b, max_iterations=5).solution.double().sum().item().hex())
"""
    load = "from diff3r_plugin.kernels.loading import library_cpu; library_cpu.load()"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script.format(before=before)], capture_output=True, text=True, check=True
        ).stdout
        for before in ("", load)
    }
    assert len(printed) == 1
