"""Which tensors the words of a launch's arguments are addresses of."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

POISON = -0x0A5A5B
"""What tensors that were never written hold in each word (``machine.h``): a NaN of either float type."""

_EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_ADDRESS = torch._C.TensorBase.data_ptr


class Arrays:
    """Tensors by the addresses that their ``data_ptr()`` gave away, as long as :meth:`watched` lasts."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int, StorageWeakRef]] = {}

    @contextmanager
    def watched(self) -> Iterator[Arrays]:
        """Note addresses, and poison what is allocated without being written."""
        arrays = self

        def data_ptr(tensor: torch.Tensor) -> int:
            address = _ADDRESS(tensor)
            arrays._note(tensor, address)
            return address

        torch.Tensor.data_ptr = data_ptr  # type: ignore[method-assign, assignment]
        try:
            with _Poisoned():
                yield self
        finally:
            del torch.Tensor.data_ptr

    def regions(self, arguments: bytes) -> list[tuple[int, int, int]]:
        """Begin, bytes and word of each array among a launch's arguments.

        Raises:
            AssertionError: for one that has been freed.
        """
        found = []
        for word, (address,) in enumerate(struct.iter_unpack("<Q", arguments)):
            sizes = self._known.get(address, {})
            alive = [size for size, storage in sizes.items() if not storage.expired()]
            assert alive or not sizes, f"word {word} of a launch's arguments is the address of a tensor that was freed"
            if alive:
                found.append((address, max(alive), word))
        return found

    def _note(self, tensor: torch.Tensor, address: int) -> None:
        if address and tensor.is_contiguous():
            storage = StorageWeakRef(tensor.untyped_storage())
            sizes = self._known.setdefault(address, {})
            for size in [size for size, other in sizes.items() if other.expired()]:
                del sizes[size]
            sizes[tensor.numel() * tensor.element_size()] = storage


class _Poisoned(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in _EMPTY and result.device.type == "cpu" and result.numel():
            room = result.untyped_storage()
            words = torch.empty(0, dtype=torch.int32).set_(room, 0, (room.nbytes() // 4,))  # type: ignore[call-overload]
            words.fill_(POISON)
        return result
