"""Sums of long vectors and their inverses, in memory that kernels have used before.

On a CPU the operating system hands out tens of megabytes page by page, each cleared first: with half a million
Gaussians that takes longer than the sum. Where autograd records, and on other devices, these are PyTorch's own.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.kernels.loading import library_cpu


def added(
    a: Float[Tensor, "B P"], b: Float[Tensor, "B P"], scale: Float[Tensor, "B 1"] | None = None
) -> Float[Tensor, "B P"]:
    """a + b, or a + scale · b.

    Args:
        a, b: ``[B, P]``, of one dtype and device.
        scale: One number a system.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.recycled import added
        >>> added(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([[3.0]]))
        tensor([[4., 4.]])
    """
    out = room_for(a, b, scale)
    if scale is None:
        return torch.add(a, b, out=out)
    return torch.addcmul(a, scale, b, out=out)


def copied(a: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """A copy.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.recycled import copied
        >>> copied(torch.ones(1, 2))
        tensor([[1., 1.]])
    """
    out = room_for(a)
    return a.clone() if out is None else out.copy_(a)


def kept(which: Bool[Tensor, " B"], a: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """A new vector: a for the systems of ``which``, zero for the others, whatever a holds there.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.recycled import kept
        >>> kept(torch.tensor([True, False]), torch.tensor([[1.0], [float("nan")]]))
        tensor([[1.],
                [0.]])
    """
    return torch.where(which[:, None], a, a.new_zeros(()), out=room_for(a))


def inverse_sum(a: Float[Tensor, "B P"], b: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """1 / (a + b), and 1 where a + b is not positive; one pass where there are kernels.

    Args:
        a, b: ``[B, P]``, of one dtype and device.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.recycled import inverse_sum
        >>> inverse_sum(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]]))
        tensor([[0.2500, 1.0000]])
    """
    library = library_cpu.load() if a.device.type == "cpu" else None
    out = room_for(a, b)
    if library is None or out is None or a.dtype not in library.by_dtype:
        return torch.threshold(a + b, 0, 1).reciprocal()
    a, b = a.contiguous(), b.contiguous()
    pointers = [t.data_ptr() for t in (a, b, out)]
    library.by_dtype[a.dtype].inverse_sum(library_cpu.Systems(*a.shape), torch.get_num_threads(), *pointers)
    return out


def room_for(vector: Float[Tensor, "B P"], *others: Tensor | None) -> Float[Tensor, "B P"] | None:
    """An ``out=`` for an operation on these tensors, shaped like the first; None where autograd has to record it."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (vector, *others)):
        return None
    library = library_cpu.load() if vector.device.type == "cpu" else None
    return torch.empty_like(vector) if library is None else library.empty(tuple(vector.shape), vector.dtype)
