"""Conjugate gradients on a GPU: three kernels an iteration besides the product; all numbers stay on the device.

The same decisions as in :func:`diff3r_plugin.linalg.pcg.solve`, made by the kernels (``kernels/cuda/pcg.cu``). The host
neither waits nor allocates within an iteration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.kernels.loading import library_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.driver import DriverError
from diff3r_plugin.kernels.loading.kernel_table import Systems
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.linalg.pcg_result import PCGResult
from diff3r_plugin.linalg.preconditioners import Jacobi

RECORD_NUMBERS, REASON, RELATIVE = 14, 10, 12
"""As in ``kernels/cuda/pcg.cu``; iterations stand behind the reason."""

_LAST, _STABILIZED = 1, 2

Launch = Callable[..., None]
"""Queues a kernel: its name, the vector that tells its sizes and its device, tensors and numbers."""


def launcher(kernels: CudaKernels, stream: Callable[[torch.device], int] = library_cuda.stream_of) -> Launch:
    """Kernels queued on the stream that ``stream`` names for a device."""

    def launch(kernel: str, like: Float[Tensor, "B P"], *arguments: Tensor | float | None) -> None:
        queue = library_cuda.Queue(stream(like.device), like.device.index or 0)
        given = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        kernels.launch(kernel, queue, Systems(*like.shape), *given)

    return launch


def launcher_for(b: Float[Tensor, "B P"], preconditioner: Callable[[Tensor], Tensor] | None) -> Launch | None:
    """The kernels of a right-hand side's device, or None: off a GPU, in float64, for other preconditioners than Jacobi,
    with a graph to record, and where there are no kernels."""
    simple = preconditioner is None or isinstance(preconditioner, Jacobi)
    if not (simple and b.is_cuda and b.dtype == torch.float32) or (torch.is_grad_enabled() and b.requires_grad):
        return None
    with contextlib.suppress(BuildError, DriverError, OSError):  # the renderer has warned of it
        return launcher(library_cuda.load(b.device))
    return None


def solve(
    launch: Launch,
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, "B P"],
    x0: Float[Tensor, "B P"] | None,
    preconditioner: Jacobi | None,
    max_iterations: int,
    tolerance: float,
    stabilize_every: int,
) -> PCGResult:
    """:func:`diff3r_plugin.linalg.pcg.pcg` with these kernels."""
    b = b.contiguous()
    inverse = None if preconditioner is None else preconditioner.inverse.contiguous()
    record = torch.zeros((max_iterations + 1, b.shape[0], RECORD_NUMBERS), dtype=torch.float64, device=b.device)
    rows = list(record.unbind(0))
    r = b if x0 is None else b - matvec(x0)
    x, p = torch.empty_like(b), torch.empty_like(b)
    rooms = [torch.empty_like(b) for _ in range(min(max_iterations, 2))]  # residuals go back and forth
    launch("pcg_measure", b, rows[0], inverse, b, r)
    launch("pcg_begin", b, rows[0], tolerance, inverse, r, None if x0 is None else x0.contiguous(), x, p)
    for k in range(1, max_iterations + 1):
        before, now, r_new = rows[k - 1], rows[k], rooms[k % len(rooms)]
        Ap = matvec(p).contiguous()
        launch("pcg_curvature", b, now, p, Ap)
        launch("pcg_advance", b, before, now, inverse, Ap, r, r_new)
        stabilized = stabilize_every > 0 and k % stabilize_every == 0
        if stabilized:
            trial = torch.empty_like(b)
            launch("pcg_trial", b, before, now, p, x, trial)
            Ax = matvec(trial).contiguous()
            launch("pcg_drift", b, now, b, Ax, r_new)
            launch("pcg_replace", b, before, now, inverse, b, Ax, r_new)
        flags = _LAST * (k == max_iterations) + _STABILIZED * stabilized
        launch("pcg_follow", b, before, now, tolerance, flags, inverse, r, r_new, x, p)
        r = r_new
    reason, iterations = rows[-1][:, REASON : REASON + 2].long().unbind(-1)
    return PCGResult(x, r, iterations, rows[-1][:, RELATIVE].to(b.dtype), reason)
