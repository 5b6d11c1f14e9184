"""Functions that name a device: factories, and what moves tensors from one device to another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.pretended.ledger import Ledger
from benchmarks.pretended.tensors import Pretended, onto

UPLOADS = {"tensor", "as_tensor", "from_numpy", "asarray"}
"""Factories that bring data of the host along."""


class _Moved(torch.autograd.Function):
    """A copy on another device, and its gradient back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, target: int | None) -> Tensor:
        ctx.source = value.place if isinstance(value, Pretended) else None
        return _placed(value.detach(), target)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _placed(gradient.detach(), ctx.source), None


def _placed(value: Tensor, target: int | None) -> Tensor:
    held = value.held if isinstance(value, Pretended) else value
    return held.clone() if target is None else Pretended(held.clone(), target)


class DeviceFunctions(TorchFunctionMode):
    """Makes ``device="cuda"`` mean a pretended device.

    Args:
        ledger: What is told of copies.
        count: How many devices there are.
        current: Index of the current device, as ``torch.cuda.current_device`` tells it.
    """

    def __init__(self, ledger: Ledger, count: int, current: Any) -> None:
        super().__init__()
        self._ledger, self._count, self._current = ledger, count, current

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        name = getattr(function, "__name__", "")
        own = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        if own is not None and name == "to":
            return self._to(function, own, list(arguments[1:]), named)
        if own is not None and name in ("cpu", "cuda"):
            device = arguments[1] if len(arguments) > 1 else named.get("device")
            return self._moved(own, torch.device("cpu") if name == "cpu" else torch.device(device or "cuda"))
        if own is not None and name == "backward":
            with self:  # what backward functions make must be seen here, too
                given = arguments[1] if len(arguments) > 1 else named.pop("gradient", None)
                return torch.autograd.backward(own, given, *arguments[2:], **named)
        device = named.get("device")
        if device is None and isinstance(own, Pretended) and name.startswith("new_"):
            return self._made(function, name, arguments, named, own.place)
        if device is not None and torch.device(device).type == "cuda":
            return self._made(function, name, arguments, named, self._index(torch.device(device)))
        if device is not None and isinstance(own, Pretended):  # made like a tensor of a device, on the CPU
            return function(own.held, *arguments[1:], **named)
        return function(*arguments, **named)

    def _index(self, device: torch.device) -> int:
        index = self._current() if device.index is None else device.index
        if index >= self._count:
            raise RuntimeError(f"CUDA error: invalid device ordinal (cuda:{index} of {self._count} devices).")
        return index

    def _made(self, function: Any, name: str, arguments: Any, named: dict, index: int) -> Any:
        """A tensor that is made on a device."""
        if name in UPLOADS and isinstance(arguments[0], Pretended):  # nothing of the host's
            placed = self._moved(arguments[0], torch.device("cuda", index))
            dtype = named.get("dtype")
            return placed if dtype in (None, placed.dtype) else placed.to(dtype)
        named = {**named, "device": torch.device("cpu")}
        arguments = tuple(a.held if isinstance(a, Pretended) else a for a in arguments)
        made = onto(function(*arguments, **named), index)
        if name in UPLOADS or name == "new_tensor":
            self._ledger.wait(f"{name} from the host")
        if "empty" not in name:
            self._ledger.operation(name)
        self._ledger.allocation(name)
        return made

    def _to(self, function: Any, own: Tensor, rest: list, named: dict) -> Any:
        """``own.to(...)``: the device apart from dtype and layout."""
        target = named.pop("device", None)
        named.pop("non_blocking", None)
        for position, value in enumerate(rest):
            if isinstance(value, Tensor):
                target, rest[position] = value.device, value.dtype
                break
            if isinstance(value, str | torch.device):
                target = rest.pop(position)
                break
        converted = function(own, *rest, **named) if rest or named else own
        return converted if target is None else self._moved(converted, torch.device(target))

    def _moved(self, value: Tensor, target: torch.device) -> Tensor:
        index = self._index(target) if target.type == "cuda" else None
        source = value.place if isinstance(value, Pretended) else None
        if index == source:
            return value
        names = ["the CPU" if i is None else f"cuda:{i}" for i in (source, index)]
        if None in (index, source):  # from one device to another nobody waits
            self._ledger.wait(f"a copy from {names[0]} to {names[1]}")
        self._ledger.operation(f"copy from {names[0]} to {names[1]}")
        return _Moved.apply(value, index)
