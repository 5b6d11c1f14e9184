"""``torch.cuda`` as it would be with devices, and our kernels compiled for the CPU in the place of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from benchmarks.pretended.functions import DeviceFunctions
from benchmarks.pretended.ledger import Ledger
from benchmarks.pretended.tensors import active
from diff3r_plugin.kernels.loading import library_cuda
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.render import gsplat_backend, gsplat_rasterizer

CAPABILITY = (9, 0)
MEMORY = 1 << 36


@contextlib.contextmanager
def pretended_devices(kernels: CudaKernels, launched: Callable[[], int], count: int = 1) -> Iterator[Ledger]:
    """Within this context there are ``count`` CUDA devices; their kernels are the given ones.

    Args:
        kernels: Ours, compiled for the CPU, in float32.
        launched: How many of them have been launched in this process.
        count: Devices.

    Example:
        >>> import torch
        >>> from benchmarks.pretended import pretended_devices
        >>> with pretended_devices(kernels=None, launched=lambda: 0) as ledger:
        ...     bool(torch.zeros(3, device="cuda").any())
        False
        >>> ledger.counts().waits
        1
    """
    ledger = Ledger(launched)
    state = SimpleNamespace(current=0)
    rasterizer = gsplat_rasterizer.without_gsplat(kernels)
    replaced: list[tuple[Any, str, Any]] = [
        *((torch.cuda, name, value) for name, value in _cuda(ledger, count, state).items()),
        # Its answer to a mode is to call itself without one, and backward functions would run without it.
        (torch.autograd, "has_torch_function", lambda values: False),
        (library_cuda, "load", lambda *arguments: kernels),
        (gsplat_rasterizer, "load", lambda device: rasterizer),
        (gsplat_backend, "self_tested", lambda device, bases: []),
    ]
    gsplat_backend._failure.cache_clear()
    with contextlib.ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.callback(gsplat_backend._failure.cache_clear)
        active.append(ledger)
        stack.callback(active.pop)
        stack.enter_context(DeviceFunctions(ledger, count, lambda: state.current))
        yield ledger


def _cuda(ledger: Ledger, count: int, state: SimpleNamespace) -> dict[str, Any]:
    """What the package asks of ``torch.cuda``."""

    class Device(contextlib.ContextDecorator):
        def __init__(self, device: Any) -> None:
            index = device if isinstance(device, int) else torch.device(device).index
            self._index, self._before = state.current if index is None else index, 0

        def __enter__(self) -> Device:
            self._before, state.current = state.current, self._index
            return self

        def __exit__(self, *error: Any) -> None:
            state.current = self._before

    class Stream:
        cuda_stream = 0

        def __init__(self, *arguments: Any, **named: Any) -> None: ...
        def wait_stream(self, stream: Any) -> None: ...
        def synchronize(self) -> None:
            ledger.wait("Stream.synchronize")

    properties = SimpleNamespace(major=9, minor=0, total_memory=MEMORY, name="pretended", multi_processor_count=132)
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: count,
        "current_device": lambda: state.current,
        "device": Device,
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: Stream(),
        "get_device_capability": lambda device=None: CAPABILITY,
        "get_device_name": lambda device=None: properties.name,
        "get_device_properties": lambda device=None: properties,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: ledger.wait("torch.cuda.synchronize"),
        "set_sync_debug_mode": lambda mode: setattr(ledger, "strict", mode in ("error", 2)),
        "is_bf16_supported": lambda *arguments: True,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda value, device=None: None,
    }
