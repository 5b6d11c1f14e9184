"""Heads beside checkpoints that cannot hold them: a file of its own, ``CHECKPOINT.diff3r``.

PyTorch's state dicts carry the heads in their metadata; a host that copies their entries, or writes safetensors, loses
that. So whatever file a host writes its model's parameters to gets a neighbor, which is read when the file is.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.plugin.head_training import checkpoints

SUFFIX = ".diff3r"

SHARE = 0.5
"""Of a model's parameters that a file must hold to be a checkpoint of it: frozen parts are often left out."""


def beside(checkpoint: Any) -> Path | None:
    """Where the heads of a checkpoint lie; None for what is no path."""
    return Path(f"{os.fspath(checkpoint)}{SUFFIX}") if isinstance(checkpoint, (str, os.PathLike)) else None


def write(checkpoint: Any, entry: Mapping[str, Any]) -> None:
    """The heads of a checkpoint that has just been written."""
    path = beside(checkpoint)
    if path is None:
        return
    buffer = io.BytesIO()
    torch.save(dict(entry), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def read(checkpoint: Any) -> dict[str, Any] | None:
    """The heads beside a checkpoint, if there are any."""
    path = beside(checkpoint)
    if path is None or not path.is_file():
        return None
    return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)


def holds(names: Iterable[str], model: torch.nn.Module) -> bool:
    """Whether these are names of a model's parameters, perhaps below the name of something that wraps it."""
    own = [name for name, _ in model.named_parameters()]
    given = list(names)
    known = {name: any(one == name or one.endswith(f".{name}") for one in given) for name in own[:1] + own[-1:]}
    if not any(known.values()):
        return False
    tails = set(given)
    found = sum(name in tails or any(one.endswith(f".{name}") for one in given) for name in own)
    return found >= max(1, SHARE * len(own))


def parameters_within(content: Any) -> tuple[list[str], bool]:
    """Names of tensors in the largest mapping of a saved object, and whether heads lie in its metadata already."""
    if not isinstance(content, Mapping):
        return [], False
    metadata = getattr(content, "_metadata", None) or {}
    own = [name for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)]
    has_heads = any(checkpoints.KEY in part for part in (metadata, *metadata.values()) if isinstance(part, Mapping))
    parts = [(own, has_heads), *(parameters_within(value) for value in content.values())]
    return max(parts, key=lambda part: len(part[0]))


def around_torch_save(saved: Callable[[Any, list[str]], None]) -> Callable[..., Any]:
    """Makes a ``torch.save`` that tells ``saved(path, names of tensors)`` of mappings without heads."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(obj, f, *args, **kwargs)
            names, has_heads = parameters_within(obj)
            if names and not has_heads:
                saved(f, names)
            return result

        return save

    return make


def around_serialize(saved: Callable[[Any, list[str]], None]) -> Callable[..., Any]:
    """Makes a ``safetensors.torch.serialize_file`` that tells ``saved`` likewise."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def serialize_file(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(tensors, filename, *args, **kwargs)
            saved(filename, list(tensors))
            return result

        return serialize_file

    return make


def around_loading(loaded: Callable[[Any], None]) -> Callable[..., Any]:
    """Makes a ``torch.load`` or a ``safe_open`` that tells ``loaded(path)``."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def load(f: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(f, *args, **kwargs)
            loaded(f)
            return result

        return load

    return make


def safetensors() -> Any | None:
    """The module ``safetensors.torch``, if the host has imported it: it reads and writes by names of its own."""
    return sys.modules.get("safetensors.torch")
