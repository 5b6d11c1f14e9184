"""The vector work between two products of conjugate gradients: in PyTorch, or fused in kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.kernels.loading import library_cpu, library_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.library_cpu import Kernels
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
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

    def dot(self, a: Tensor, b: Tensor) -> Float[Tensor, "B"]:
        """Scalar products, one a system."""
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
        # Asking would make the host wait for a GPU; on a CPU it saves two passes.
        if good.device.type == "cpu" and good.all():
            return new, r_new
        return torch.where(good[:, None], new, old), torch.where(good[:, None], r_new, r_old)

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        return torch.addcmul(z, beta[:, None], p)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        return dot(a, b)


class Run(Protocol):
    """Runs a kernel (``advance``, ``measure``, ``direction``, ``restore``, ``products``) on contiguous tensors."""

    def __call__(self, kernel: str, like: Float[Tensor, "B P"], *tensors: Tensor | None) -> None: ...


def on_cpu(kernels: Kernels) -> Run:
    """With the CPU kernels of the vectors' dtype, on as many threads as PyTorch uses."""

    def run(kernel: str, like: Tensor, *tensors: Tensor | None) -> None:
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        getattr(kernels, kernel)(library_cpu.Systems(*like.shape), torch.get_num_threads(), *pointers)

    return run


def on_gpu(kernels: CudaKernels, stream: Callable[[torch.device], int] = library_cuda.stream_of) -> Run:
    """With the GPU kernels, queued on the stream that ``stream`` names for a device."""

    def run(kernel: str, like: Tensor, *tensors: Tensor | None) -> None:
        systems = library_cuda.Systems(like.shape[0], like.shape[1], stream(like.device), like.device.index or 0)
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        kernels.check(getattr(kernels, kernel)(systems, *pointers))

    return run


class FusedUpdates:
    """One kernel for ``advance``, which reads every vector once, and nothing that waits for a device.

    Takes no memory after the first iterations: x and r go back and forth between two rooms each, and z keeps its own.

    Args:
        preconditioner: Jacobi, or None for the identity.
        run: What runs the kernels for the vectors' device and dtype.
        empty: What makes rooms, from a shape and a dtype; ``torch.empty`` on the vectors' device by default.
    """

    def __init__(
        self,
        preconditioner: Jacobi | None,
        run: Run,
        empty: Callable[[tuple[int, ...], torch.dtype], Tensor] | None = None,
    ) -> None:
        self._inverse = None if preconditioner is None else preconditioner.inverse.contiguous()
        self._run, self._empty = run, empty
        self._z: Tensor | None = None
        self._rooms: list[tuple[Tensor, Tensor]] = []

    def measure(self, r: Tensor) -> Measured:
        r = r.contiguous()
        z, sums = self._room_for_z(r), self._sums(r)
        self._run("measure", r, self._inverse, r, z, sums)
        return self._measured(r, z, sums)

    def advance(self, x: Tensor, r: Tensor, p: Tensor, Ap: Tensor, alpha: Tensor) -> tuple[Tensor, Measured]:
        x, r, p, Ap, alpha = (t.contiguous() for t in (x, r, p, Ap, alpha))
        (x_new, r_new), z, sums = self._other_rooms(x, r), self._room_for_z(r), self._sums(r)
        self._run("advance", r, alpha, self._inverse, p, Ap, x, r, x_new, r_new, z, sums)
        return x_new, self._measured(r_new, z, sums)

    def restore(self, good: Tensor, new: Tensor, old: Tensor, r_new: Tensor, r_old: Tensor) -> tuple[Tensor, Tensor]:
        new, r_new = new.contiguous(), r_new.contiguous()
        self._run("restore", r_new, good.to(torch.uint8), old.contiguous(), r_old.contiguous(), new, r_new)
        return new, r_new

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        z, p = z.contiguous(), p.contiguous()
        self._run("direction", z, beta.contiguous(), z, p)
        return p

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        a, b, sums = a.contiguous(), b.contiguous(), self._sums(a)
        self._run("products", a, a, b, None, sums)
        return sums[:, 0].to(a.dtype)

    def _room(self, like: Tensor) -> Tensor:
        return torch.empty_like(like) if self._empty is None else self._empty(tuple(like.shape), like.dtype)

    def _room_for_z(self, like: Tensor) -> Tensor:
        if self._z is None:
            self._z = self._room(like)
        return self._z

    def _other_rooms(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Rooms for a new x and r that hold neither the current ones nor a caller's tensors."""
        taken = (x.data_ptr(), r.data_ptr())
        for room in self._rooms:
            if room[0].data_ptr() not in taken and room[1].data_ptr() not in taken:
                return room
        self._rooms.append((self._room(x), self._room(r)))
        return self._rooms[-1]

    @staticmethod
    def _sums(r: Tensor) -> Tensor:
        return torch.zeros((r.shape[0], 2), dtype=torch.float64, device=r.device)

    @staticmethod
    def _measured(r: Tensor, z: Tensor, sums: Tensor) -> Measured:
        rz, squared = sums.to(r.dtype).unbind(-1)
        return Measured(r, z, rz, squared)


def updates_for(b: Float[Tensor, "B P"], preconditioner: Callable[[Tensor], Tensor] | None) -> VectorUpdates:
    """Fused where that is possible: Jacobi or no preconditioner, no graph to record, and kernels for the device.

    These are the GPU's, in float32, where there is nvcc; on a CPU those that the renderer has loaded, if it has.
    """
    simple = preconditioner is None or isinstance(preconditioner, Jacobi)
    if not simple or (torch.is_grad_enabled() and b.requires_grad):
        return TorchUpdates(preconditioner)
    if b.is_cuda and b.dtype == torch.float32:
        with contextlib.suppress(BuildError, OSError):  # the renderer has warned of it
            kernels = library_cuda.load(torch.cuda.get_device_capability(b.device))
            return FusedUpdates(preconditioner, on_gpu(kernels))  # type: ignore[arg-type]
    library = library_cpu.loaded()
    if b.device.type == "cpu" and library is not None and b.dtype in library.by_dtype:
        return FusedUpdates(preconditioner, on_cpu(library.by_dtype[b.dtype]), library.empty)  # type: ignore[arg-type]
    return TorchUpdates(preconditioner)


def dot(a: Float[Tensor, "B P"], b: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
    """Scalar products, one a system; never in TF32, as a matrix product might be."""
    return (a * b).sum(-1)
