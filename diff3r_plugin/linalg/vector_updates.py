"""The vector work between two products of conjugate gradients: in PyTorch, or fused on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.kernels.loading import library_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels, Systems
from diff3r_plugin.linalg.preconditioners import Jacobi


@dataclass(frozen=True)
class Measured:
    """A residual r, the preconditioned z = M⁻¹ r, and the products z·r and r·r of each system."""

    r: Float[Tensor, "B P"]
    z: Float[Tensor, "B P"]
    rz: Float[Tensor, "B"]
    squared: Float[Tensor, "B"]


class VectorUpdates(Protocol):
    """What an iteration does besides the product; all vectors ``[B, P]``, all scalars ``[B]``."""

    def measure(self, r: Float[Tensor, "B P"]) -> Measured:
        """Precondition a residual."""
        ...

    def advance(self, x: Tensor, r: Tensor, p: Tensor, Ap: Tensor, alpha: Tensor) -> tuple[Tensor, Measured]:
        """x + alpha p, and r - alpha Ap measured."""
        ...

    def restore(
        self, good: Bool[Tensor, "B"], new: Tensor, old: Tensor, r_new: Tensor, r_old: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New x and r, but the old ones for systems that are not ``good``; may overwrite the new ones."""
        ...

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        """z + beta p; may overwrite p."""
        ...


class TorchUpdates:
    """With PyTorch's operations: any device, any preconditioner, and autograd can follow.

    Args:
        preconditioner: ``r -> M⁻¹ r``, or None for the identity.
    """

    def __init__(self, preconditioner: Callable[[Tensor], Tensor] | None) -> None:
        self._precondition = preconditioner or (lambda r: r)

    def measure(self, r: Tensor) -> Measured:
        z = self._precondition(r)
        return Measured(r, z, dot(r, z), dot(r, r))

    def advance(self, x: Tensor, r: Tensor, p: Tensor, Ap: Tensor, alpha: Tensor) -> tuple[Tensor, Measured]:
        x_new = torch.addcmul(x, alpha[:, None], p)
        return x_new, self.measure(torch.addcmul(r, alpha[:, None], Ap, value=-1))

    def restore(self, good: Tensor, new: Tensor, old: Tensor, r_new: Tensor, r_old: Tensor) -> tuple[Tensor, Tensor]:
        # On a GPU the question would stop the queue; on a CPU it saves two passes.
        if good.device.type == "cpu" and good.all():
            return new, r_new
        return torch.where(good[:, None], new, old), torch.where(good[:, None], r_new, r_old)

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        return torch.addcmul(z, beta[:, None], p)


class FusedUpdates:
    """One kernel for ``advance``, which reads every vector once, and nothing that waits for the device.

    Args:
        preconditioner: Jacobi, or None for the identity.
        kernels: For the vectors' device and dtype.
        stream: Handle of the stream to queue on, for a device.
    """

    def __init__(
        self,
        preconditioner: Jacobi | None,
        kernels: CudaKernels,
        stream: Callable[[torch.device], int] = library_cuda.stream_of,
    ) -> None:
        self._inverse = None if preconditioner is None else preconditioner.inverse.contiguous()
        self._kernels, self._stream = kernels, stream

    def measure(self, r: Tensor) -> Measured:
        r, z, sums = r.contiguous(), torch.empty_like(r), self._sums(r)
        self._run(self._kernels.measure, r, self._inverse, r, z, sums)
        return self._measured(r, z, sums)

    def advance(self, x: Tensor, r: Tensor, p: Tensor, Ap: Tensor, alpha: Tensor) -> tuple[Tensor, Measured]:
        x, r, p, Ap, alpha = (t.contiguous() for t in (x, r, p, Ap, alpha))
        x_new, r_new, z, sums = torch.empty_like(x), torch.empty_like(r), torch.empty_like(r), self._sums(r)
        self._run(self._kernels.advance, r, alpha, self._inverse, p, Ap, x, r, x_new, r_new, z, sums)
        return x_new, self._measured(r_new, z, sums)

    def restore(self, good: Tensor, new: Tensor, old: Tensor, r_new: Tensor, r_old: Tensor) -> tuple[Tensor, Tensor]:
        self._run(self._kernels.restore, r_new, good.to(torch.uint8), old, r_old, new, r_new)
        return new, r_new

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        p = p.contiguous()
        self._run(self._kernels.direction, z, beta.contiguous(), z, p)
        return p

    @staticmethod
    def _sums(r: Tensor) -> Tensor:
        return torch.zeros((r.shape[0], 2), dtype=torch.float64, device=r.device)

    @staticmethod
    def _measured(r: Tensor, z: Tensor, sums: Tensor) -> Measured:
        rz, squared = sums.to(r.dtype).unbind(-1)
        return Measured(r, z, rz, squared)

    def _run(self, kernel: Callable[..., int], like: Tensor, *tensors: Tensor | None) -> None:
        systems = Systems(like.shape[0], like.shape[1], self._stream(like.device), like.device.index or 0)
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        self._kernels.check(kernel(systems, *pointers))


def updates_for(b: Float[Tensor, "B P"], preconditioner: Callable[[Tensor], Tensor] | None) -> VectorUpdates:
    """Fused where that is possible: float32 on a GPU, Jacobi or no preconditioner, no graph to record, nvcc."""
    simple = preconditioner is None or isinstance(preconditioner, Jacobi)
    if b.is_cuda and b.dtype == torch.float32 and simple and not (torch.is_grad_enabled() and b.requires_grad):
        try:
            kernels = library_cuda.load(torch.cuda.get_device_capability(b.device))
            return FusedUpdates(preconditioner, kernels)  # type: ignore[arg-type]
        except (BuildError, OSError):  # the renderer has warned of it
            pass
    return TorchUpdates(preconditioner)


def dot(a: Float[Tensor, "B P"], b: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
    """Scalar products, one a system."""
    return torch.bmm(a[:, None, :], b[:, :, None])[:, 0, 0]
