"""Checks of arguments before anything is computed with them: what kind of object, which kind of numbers, where."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def kind(value: Any) -> str:
    """The type of a value as an error names it.

    >>> kind([1.0])
    'list'
    >>> kind(torch.zeros(2))
    'torch.Tensor'
    """
    if isinstance(value, Tensor):
        return "torch.Tensor"
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def require_instance(name: str, value: Any, expected: type) -> None:
    """Raise TypeError unless ``value`` is an ``expected``."""
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} must be {expected.__name__} (diff3r_plugin.{expected.__name__}), got {kind(value)}. Are the "
            "arguments in another order?"
        )


def require_tensor(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a tensor of floating-point numbers."""
    if not isinstance(value, Tensor):
        cure = "torch.from_numpy(array)" if type(value).__module__ == "numpy" else "torch.tensor(values)"
        raise TypeError(f"{name} must be a torch.Tensor, got {kind(value)}; make one with {cure}.")
    if not value.dtype.is_floating_point:
        cure = f"{name}.float() / 255" if value.dtype == torch.uint8 else f"{name}.float()"
        raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}; convert with {cure}.")


def require_device(name: str, value: Tensor, device: torch.device, of: str) -> None:
    """Raise ValueError unless ``value`` is on ``device``, where ``of`` is."""
    if value.device != device:
        raise ValueError(f"{name} is on {value.device} but {of} on {device}; move one with .to(...).")


def batch_hint(value: Tensor, wanted: int) -> str:
    """What to add to a shape error where exactly the batch dimension is missing."""
    return "" if value.ndim != wanted - 1 else " One scene alone is a batch of one: add a dimension with [None]."
