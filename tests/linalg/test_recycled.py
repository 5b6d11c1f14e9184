"""Sums in recycled memory are PyTorch's sums, and autograd sees them."""

import pytest
import torch

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.linalg.recycled import added, room_for

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
