"""Tensors that say they are on a CUDA device and are computed on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from benchmarks.pretended.ledger import Ledger

aten = torch.ops.aten

WAITS = {
    aten._local_scalar_dense.default,
    aten._linalg_check_errors.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.linalg_matrix_exp.default,  # sorts matrices by their norms, on the host
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.unique_consecutive.default,
}
"""Operations whose result's shape or value the host needs."""

CROSSINGS = {aten.copy_.default, aten._to_copy.default}
"""Operations that may read on one device and write on another."""

BOOLEAN_INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations that count their mask, if they are given one."""

ALLOCATIONS = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
"""Operations that launch nothing."""

VIEWS = {aten._unsafe_view.default, aten._reshape_alias.default}
"""Operations that are not called views and launch nothing either."""

active: list[Ledger] = []
"""The ledger that tensors report to; empty outside of ``pretended_devices``."""


class Pretended(Tensor):
    """A tensor on the CUDA device ``place``, held by the CPU tensor ``held``."""

    held: Tensor
    place: int

    @staticmethod
    def __new__(cls, held: Tensor, place: int) -> Pretended:
        # PyTorch's own bookkeeping must not see a device whose runtime it does not have.
        made: Pretended = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("cpu"),
            requires_grad=held.requires_grad,
        )
        made.held, made.place = held, place
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.place)

    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return self.place

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        _note_wait("tolist")
        return self.held.detach().tolist()

    def numpy(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy: use Tensor.cpu() first.")

    def __repr__(self, **named: Any) -> str:  # type: ignore[override]
        return f"{self.held!r} on {self.device}"

    def __deepcopy__(self, memo: dict) -> Pretended:
        return Pretended(self.held.detach().clone(), self.place).requires_grad_(self.requires_grad)  # type: ignore[return-value]

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        named = dict(named or {})
        devices = {tensor.place for tensor in _pretended(arguments, named)}
        _note(function, arguments, named, devices)
        if named.get("device") is not None:
            named["device"] = torch.device("cpu")
        result = function(*tree_map(_held, arguments), **tree_map(_held, named))
        known = {id(tensor.held): tensor for tensor in _pretended(arguments, named)}
        index = min(devices)

        def dressed(value: Any) -> Any:
            if not isinstance(value, Tensor) or isinstance(value, Pretended):
                return value
            own = known.get(id(value))  # in place, and into given room
            return Pretended(value, index) if own is None else own

        return tree_map(dressed, result)


def onto(value: Any, index: int) -> Any:
    """Tensors of a result on a pretended device."""
    return tree_map(
        lambda x: Pretended(x, index) if isinstance(x, Tensor) and not isinstance(x, Pretended) else x, value
    )


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _pretended(*values: Any) -> Iterator[Pretended]:
    return (value for value in tree_flatten(values)[0] if isinstance(value, Pretended))


def _note_wait(name: str) -> None:
    if active:
        active[-1].wait(name)


def _note(function: Any, arguments: Any, named: dict, devices: set[int]) -> None:
    if not active:
        return
    ledger, name = active[-1], str(function).removeprefix("aten.")
    elsewhere = [
        t for t in tree_flatten((arguments, named))[0] if isinstance(t, Tensor) and not isinstance(t, Pretended)
    ]
    # A number on the CPU may meet any device's tensors: it travels as an argument of the kernel.
    strangers = [t for t in elsewhere if t.ndim > 0 or torch.Tag.pointwise not in function.tags]
    if len(devices) > 1 and function not in CROSSINGS:
        ledger.finding(f"{name} mixes tensors of {' and '.join(f'cuda:{i}' for i in sorted(devices))}")
    if (
        strangers
        and function not in CROSSINGS
        and function not in BOOLEAN_INDEX
        and not _takes_numbers(function, strangers)
        and not _of_the_engine()
    ):
        ledger.finding(f"{name} mixes tensors of cuda:{min(devices)} and the CPU")
    if function in WAITS:
        ledger.wait(name)
    elif function in CROSSINGS and elsewhere:
        ledger.wait(f"{name} between a device and the CPU")
    elif function in BOOLEAN_INDEX:
        indices = [t for t in arguments[1] if isinstance(t, Tensor)]
        if any(t.dtype == torch.bool for t in indices):
            ledger.wait(f"{name} with a mask")
        if any(not isinstance(t, Pretended) for t in indices):
            ledger.wait(f"{name} with indices from the CPU")
    if function in ALLOCATIONS:
        ledger.allocation(name)
    elif not getattr(function, "is_view", False) and function not in VIEWS:
        ledger.operation(name)
        if not function._schema.is_mutable:
            ledger.allocation(name)


def _of_the_engine() -> bool:
    """Whether a derivative of PyTorch's own runs: it takes our devices for the CPU, and fills gaps with zeros there."""
    node = torch._C._current_autograd_node()
    return node is not None and node.name()[-1].isdigit()


def _takes_numbers(function: Any, strangers: list[Tensor]) -> bool:
    """Operations besides the pointwise ones that take a number of the CPU."""
    return all(t.ndim == 0 for t in strangers) and function in (
        aten.fill_.Tensor,
        aten.masked_fill.Tensor,
        aten.masked_fill_.Tensor,
        aten.where.self,
        aten.where.ScalarSelf,
        aten.where.ScalarOther,
        aten.where.self_out,
    )
