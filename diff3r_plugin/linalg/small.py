"""Batches of small matrices without matrix products: those of 3 × 3 as nine tensors, so that known zeros cost nothing.

A matrix product in float32 may be rounded to TF32 on a GPU, where a host asks for speed by
``torch.set_float32_matmul_precision``; J and Jᵀ would then no longer be each other's transpose. Besides, elementwise
arithmetic on whole batches is several times faster than batched matrix products of this size, and a triangular factor
is mostly zeros. An entry that is None is zero everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Entry = Tensor | None
Matrix3 = Sequence[Sequence[Entry]]
"""Rows of entries, each a tensor over the batch, or None for zero."""


class Lower3(NamedTuple):
    """A batch of lower triangular matrices: its six entries, row by row."""

    xx: Tensor
    yx: Tensor
    yy: Tensor
    zx: Tensor
    zy: Tensor
    zz: Tensor

    def rows(self) -> Matrix3:
        """With its zeros, as products take it."""
        return [[self.xx, None, None], [self.yx, self.yy, None], [self.zx, self.zy, self.zz]]


SYMMETRIC_ENTRIES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Row and column of the six free numbers of a symmetric matrix: xx, xy, xz, yy, yz, zz."""


def multiply(a: Entry, b: Entry) -> Entry:
    return None if a is None or b is None else a * b


def add(a: Entry, b: Entry) -> Entry:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def subtract(a: Entry, b: Entry) -> Entry:
    if b is None:
        return a
    return -b if a is None else a - b


def matmul3(a: Matrix3, b: Matrix3) -> list[list[Entry]]:
    """The product of two matrices.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.small import entries3, matmul3, stack3
        >>> A, B = torch.randn(4, 3, 3), torch.randn(4, 3, 3)
        >>> torch.allclose(stack3(matmul3(entries3(A), entries3(B))), A @ B, atol=1e-5)
        True
    """

    def entry(i: int, j: int) -> Entry:
        total: Entry = None
        for k in range(3):
            total = add(total, multiply(a[i][k], b[k][j]))
        return total

    return [[entry(i, j) for j in range(3)] for i in range(3)]


def transpose3(a: Matrix3) -> list[list[Entry]]:
    """The transposed matrix."""
    return [[a[j][i] for j in range(3)] for i in range(3)]


def entries3(a: Float[Tensor, "*batch 3 3"]) -> list[list[Tensor]]:
    """Nine entries of a batch of matrices."""
    return [list(row.unbind(-1)) for row in a.unbind(-2)]


def dense3(a: Matrix3) -> list[list[Tensor]]:
    """The same matrix with its zeros written out; at least one entry is no zero."""
    like = next(entry for row in a for entry in row if entry is not None)
    return [[torch.zeros_like(like) if entry is None else entry for entry in row] for row in a]


def stack3(a: Matrix3) -> Float[Tensor, "*batch 3 3"]:
    """The batch of matrices with these entries, of which at least one is no zero."""
    return torch.stack([entry for row in dense3(a) for entry in row], -1).unflatten(-1, (3, 3))


def apply(matrix: Float[Tensor, "*#batch m n"], vector: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*#batch m"]:
    """Matrix times vector; what comes before is broadcast."""
    return (matrix * vector[..., None, :]).sum(-1)


def product(a: Float[Tensor, "*batch m k"], b: Float[Tensor, "*batch k n"]) -> Float[Tensor, "*batch m n"]:
    """Matrix times matrix, for a small inner dimension.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg.small import product
        >>> A, B = torch.randn(4, 2, 6), torch.randn(4, 6, 3)
        >>> torch.allclose(product(A, B), A @ B, atol=1e-5)
        True
    """
    total = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total = total + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total
