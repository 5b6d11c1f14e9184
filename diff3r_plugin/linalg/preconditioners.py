"""Approximate inverses that conjugate gradients starts each step from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.linalg.recycled import inverse_sum
from diff3r_plugin.linalg.small import apply


class Jacobi:
    """Division by the diagonal of the matrix.

    Args:
        diagonal: ``[B, P]``.
        shift: What is added to it, ``[B, P]``; the sum is positive (a zero is treated as 1).

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg import Jacobi
        >>> Jacobi(torch.tensor([[2.0, 4.0]]))(torch.ones(1, 2))
        tensor([[0.5000, 0.2500]])
    """

    def __init__(self, diagonal: Float[Tensor, "B P"], shift: Float[Tensor, "B P"] | None = None) -> None:
        self.inverse = inverse_sum(diagonal, torch.zeros_like(diagonal) if shift is None else shift)

    def __call__(self, r: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        return self.inverse * r


class BlockJacobi:
    """Division by one small dense block per Gaussian, and by the diagonal for every other unknown.

    Args:
        diagonal: ``[B, P]``, positive (a zero is treated as 1).
        blocks: ``[B, N, k, k]``, symmetric positive definite.
        unknowns: For each of the N blocks the k positions it has among the P unknowns, ``[N, k]``.

    Note:
        A block that cannot be inverted (not positive definite in the precision at hand) falls back to its diagonal.

    Example:
        >>> import torch
        >>> from diff3r_plugin.linalg import BlockJacobi
        >>> block = torch.tensor([[[[2.0, 1.0], [1.0, 2.0]]]])
        >>> inverse = BlockJacobi(torch.tensor([[2.0, 2.0, 4.0]]), block, torch.tensor([[0, 1]]))
        >>> inverse(torch.tensor([[3.0, 3.0, 4.0]])).round(decimals=4)
        tensor([[1., 1., 1.]])
    """

    def __init__(self, diagonal: Float[Tensor, "B P"], blocks: Float[Tensor, "B N k k"], unknowns: Tensor) -> None:
        self._jacobi = Jacobi(diagonal)
        self._unknowns = unknowns.reshape(-1)
        # Scaling to a unit diagonal first keeps the factorisation healthy in float32.
        scale = blocks.diagonal(dim1=-2, dim2=-1)
        scale = torch.where(scale > 0, scale, 1).rsqrt()
        scaled = blocks * scale[..., None] * scale[..., None, :]
        factor, info = torch.linalg.cholesky_ex(scaled)
        identity = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
        factor = torch.where((info == 0)[..., None, None], factor, identity)
        inverse = torch.cholesky_inverse(factor)
        self._inverse = inverse * scale[..., None] * scale[..., None, :]

    def __call__(self, r: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        B, N, k, _ = self._inverse.shape
        blocks = apply(self._inverse, r[:, self._unknowns].reshape(B, N, k)).reshape(B, N * k)
        return self._jacobi(r).index_copy(1, self._unknowns, blocks)
