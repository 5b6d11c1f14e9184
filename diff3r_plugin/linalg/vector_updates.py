"""The vector work between two products of conjugate gradients: in PyTorch, or fused in kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.kernels.loading.library_cpu import Kernels
from diff3r_plugin.linalg.preconditioners import Jacobi


@dataclass(frozen=True)
class Measured:
    """A residual r, and the products z·r and r·r of each system with z = M⁻¹ r.

    Args:
        z: Where it was made; kernels make it again, number by number, where they need it.
    """

    r: Float[Tensor, "B P"]
    rz: Float[Tensor, " B"]
    squared: Float[Tensor, " B"]
    z: Float[Tensor, "B P"] | None = None


class VectorUpdates(Protocol):
    """What an iteration does besides the product; all vectors ``[B, P]``, all scalars ``[B]``.

    x and p are made by :meth:`start` and may be overwritten by :meth:`step` and :meth:`follow`; residuals are not.
    """

    def measure(self, r: Float[Tensor, "B P"]) -> Measured:
        """Precondition a residual."""
        ...

    def start(self, now: Measured, x0: Float[Tensor, "B P"] | None) -> tuple[Tensor, Tensor]:
        """x (zero without ``x0``) and the first direction."""
        ...

    def advance(self, r: Tensor, Ap: Tensor, alpha: Tensor) -> Measured:
        """Measure r - alpha Ap."""
        ...

    def restore(self, good: Bool[Tensor, " B"], new: Measured, old: Tensor) -> Measured:
        """The new residual, but the old one for systems that are not ``good``; may overwrite the new one."""
        ...

    def step(self, x: Tensor, p: Tensor, alpha: Tensor) -> Tensor:
        """x + alpha p; where alpha is zero x stays, whatever p holds."""
        ...

    def follow(self, x: Tensor, p: Tensor, now: Measured, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """x + alpha p, and the next direction z + beta p."""
        ...

    def dot(self, a: Tensor, b: Tensor) -> Float[Tensor, " B"]:
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
        return Measured(r, dot(r, z), dot(r, r), z)

    def start(self, now: Measured, x0: Tensor | None) -> tuple[Tensor, Tensor]:
        assert now.z is not None
        return torch.zeros_like(now.r) if x0 is None else x0, now.z

    def advance(self, r: Tensor, Ap: Tensor, alpha: Tensor) -> Measured:
        return self.measure(torch.addcmul(r, alpha[:, None], Ap, value=-1))

    def restore(self, good: Tensor, new: Measured, old: Tensor) -> Measured:
        # Asking would make the host wait for a GPU; on a CPU it saves a pass.
        if good.device.type == "cpu" and good.all():
            return new
        return replace(new, r=torch.where(good[:, None], new.r, old))

    def step(self, x: Tensor, p: Tensor, alpha: Tensor) -> Tensor:
        moved = torch.addcmul(x, alpha[:, None], p)
        if alpha.device.type == "cpu" and (alpha != 0).all():
            return moved
        return torch.where((alpha != 0)[:, None], moved, x)

    def follow(self, x: Tensor, p: Tensor, now: Measured, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        assert now.z is not None
        return self.step(x, p, alpha), torch.addcmul(now.z, beta[:, None], p)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        return dot(a, b)


class Run(Protocol):
    """Runs a kernel (``measure``, ``advance``, ``restore``, ``step``, ``follow``, ``products``), all contiguous."""

    def __call__(self, kernel: str, like: Float[Tensor, "B P"], *tensors: Tensor | None) -> None: ...


def on_cpu(kernels: Kernels) -> Run:
    """With the CPU kernels of the vectors' dtype, on as many threads as PyTorch uses."""

    def run(kernel: str, like: Tensor, *tensors: Tensor | None) -> None:
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        getattr(kernels, kernel)(library_cpu.Systems(*like.shape), torch.get_num_threads(), *pointers)

    return run


class FusedUpdates:
    """Two kernels an iteration, which read every vector once each, and nothing that waits for a device.

    Takes no memory after the second iteration: x and the direction stay where they are, and residuals go back and forth
    between two buffers.

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
        self._rooms: list[Tensor] = []

    def measure(self, r: Tensor) -> Measured:
        r, sums = r.contiguous(), self._sums(r)
        self._run("measure", r, self._inverse, r, sums)
        return self._measured(r, sums)

    def start(self, now: Measured, x0: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self._room(now.r).zero_() if x0 is None else self._room(now.r).copy_(x0)
        nothing = torch.zeros_like(now.rz)
        return self.follow(x, self._room(now.r), now, nothing, nothing)

    def advance(self, r: Tensor, Ap: Tensor, alpha: Tensor) -> Measured:
        r, Ap, sums = r.contiguous(), Ap.contiguous(), self._sums(r)
        r_new = self._other_room(r)
        self._run("advance", r, alpha.contiguous(), self._inverse, Ap, r, r_new, sums)
        return self._measured(r_new, sums)

    def restore(self, good: Tensor, new: Measured, old: Tensor) -> Measured:
        r_new = new.r.contiguous()
        self._run("restore", r_new, good.to(torch.uint8), old.contiguous(), r_new)
        return replace(new, r=r_new)

    def step(self, x: Tensor, p: Tensor, alpha: Tensor) -> Tensor:
        self._run("step", x, alpha.contiguous(), p, x)
        return x

    def follow(self, x: Tensor, p: Tensor, now: Measured, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        self._run("follow", x, alpha.contiguous(), beta.contiguous(), self._inverse, now.r, x, p)
        return x, p

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        a, b, sums = a.contiguous(), b.contiguous(), self._sums(a)
        self._run("products", a, a, b, None, sums)
        return sums[:, 0].to(a.dtype)

    def _room(self, like: Tensor) -> Tensor:
        return torch.empty_like(like) if self._empty is None else self._empty(tuple(like.shape), like.dtype)

    def _other_room(self, r: Tensor) -> Tensor:
        """A buffer for a new residual that holds neither the current one nor a caller's tensor."""
        for room in self._rooms:
            if room.data_ptr() != r.data_ptr():
                return room
        self._rooms.append(self._room(r))
        return self._rooms[-1]

    @staticmethod
    def _sums(r: Tensor) -> Tensor:
        return torch.zeros((r.shape[0], 2), dtype=torch.float64, device=r.device)

    @staticmethod
    def _measured(r: Tensor, sums: Tensor) -> Measured:
        rz, squared = sums.to(r.dtype).unbind(-1)
        return Measured(r, rz, squared)


def updates_for(b: Float[Tensor, "B P"], preconditioner: Callable[[Tensor], Tensor] | None) -> VectorUpdates:
    """Fused where that is possible: Jacobi or no preconditioner, no graph to record, on a CPU with compiled kernels.

    Results do not depend on what has loaded kernels before. (On a GPU whole solves are fused: ``device_pcg``.)
    """
    simple = preconditioner is None or isinstance(preconditioner, Jacobi)
    if not simple or (torch.is_grad_enabled() and b.requires_grad):
        return TorchUpdates(preconditioner)
    library = library_cpu.load() if b.device.type == "cpu" else None
    if library is not None and b.dtype in library.by_dtype:
        return FusedUpdates(preconditioner, on_cpu(library.by_dtype[b.dtype]), library.empty)  # type: ignore[arg-type]
    return TorchUpdates(preconditioner)


def dot(a: Float[Tensor, "B P"], b: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
    """Scalar products, one a system; never in TF32, as a matrix product might be."""
    return (a * b).sum(-1)
