"""Sums and inverses in recycled memory are PyTorch's, and autograd sees them."""

import pytest
import torch

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.linalg.recycled import added, copied, inverse_sum, kept, room_for

LONG = 2**20
"""Enough numbers for recycled memory."""


@pytest.fixture(params=["kernels", "no kernels"])
def kernels(request, monkeypatch):
    if request.param == "no kernels":
        monkeypatch.setattr(library_cpu, "loaded", lambda: None)
    elif library_cpu.load() is None:
        pytest.skip("no C++ compiler here")


@pytest.mark.parametrize("size", [5, LONG])
def test_sums(kernels, size):
    a, b = torch.randn(2, size), torch.randn(2, size)
    scale = torch.tensor([[2.0], [-3.0]])
    assert torch.equal(added(a, b), a + b)
    torch.testing.assert_close(added(a, b, scale), a + scale * b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0, 5, 300, LONG + 3])
def test_inverse_of_a_sum(kernels, size, dtype):
    a, b = torch.rand(2, size, dtype=dtype), torch.rand(size, 2, dtype=dtype).T
    torch.testing.assert_close(inverse_sum(a, b), 1 / (a + b), rtol=1e-6, atol=0)


def test_what_is_not_positive_has_the_inverse_one(kernels):
    a, b = torch.tensor([[1.0, 1.0, 2.0, float("nan")]]), torch.tensor([[-1.0, -3.0, 2.0, 1.0]])
    inverse = inverse_sum(a, b)
    assert inverse[0, :3].tolist() == [1.0, 1.0, 0.25]
    assert inverse[0, 3].isnan()  # what is not a number stays none: PCG ends there


def test_autograd_follows_an_inverse(kernels):
    a, b = torch.rand(1, 4, dtype=torch.float64, requires_grad=True), torch.rand(1, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: inverse_sum(x, b), a)


def test_copies(kernels):
    a = torch.randn(2, LONG)
    assert torch.equal(copied(a), a) and copied(a).data_ptr() != a.data_ptr()


def test_systems_that_are_not_kept_are_zero(kernels):
    a = torch.full((2, LONG), float("nan"))
    a[0] = 2
    out = kept(torch.tensor([True, False]), a)
    assert (out[0] == 2).all() and (out[1] == 0).all()
    assert out.data_ptr() != a.data_ptr()


def test_the_arguments_stay_as_they_are(kernels):
    a, b = torch.ones(1, LONG), torch.ones(1, LONG)
    total = added(a, b)
    assert total.data_ptr() not in (a.data_ptr(), b.data_ptr())
    assert (a == 1).all() and (b == 1).all()


def test_two_sums_that_live_do_not_share_memory(kernels):
    a = torch.ones(1, LONG)
    first, second = added(a, a), added(a, 2 * a)
    assert (first == 2).all() and (second == 3).all()


def test_memory_is_used_again():
    if library_cpu.load() is None:
        pytest.skip("no C++ compiler here")
    a = torch.ones(1, LONG + 12345)
    first = added(a, a)
    where = first.data_ptr()
    del first
    assert added(a, a).data_ptr() == where


@pytest.mark.parametrize("which", [0, 1, 2])
def test_autograd_follows(kernels, which):
    given = [torch.randn(1, 4), torch.randn(1, 4), torch.randn(1, 1)]
    given[which].requires_grad_()
    total = added(*given)
    (gradient,) = torch.autograd.grad(total.sum(), given[which])
    expected = [torch.ones(1, 4), given[2].expand(1, 4), given[1].sum().reshape(1, 1)][which]
    torch.testing.assert_close(gradient, expected)
    assert room_for(*given) is None
    with torch.no_grad():
        assert room_for(*given) is not None
