"""Reads a feature map from inside a host's encoder, for the uncertainty head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.plugin.errors import PluginError


@dataclass(frozen=True)
class Tap:
    """Where in an encoder a feature map can be read.

    Args:
        modules: Dotted paths of submodules below the encoder, ones that are called (not their ``forward``). With more
            than one, each call yields one view, in the order of the calls.
        side: "input" (first positional argument) or "output".
        layout: einops pattern of the tensor with the letters b v c h w, for instance ``"(v b) c h w"``;
            ``"b c h w"`` where each call yields one view.
        channels: Number of channels; None: that of the first layer of the module that states one.
    """

    modules: tuple[str, ...]
    side: str
    layout: str
    channels: int | None = None


class FeatureTap:
    """Keeps the latest feature map that passed a `Tap`.

    Args:
        encoder: The host's encoder.
        tap: Where to read.

    Raises:
        PluginError: if the encoder has no such module, or its channel count cannot be told.
    """

    def __init__(self, encoder: nn.Module, tap: Tap) -> None:
        self.tap = tap
        self._kept: list[Tensor] = []
        self._reads = True
        self._handles = []
        self.channels = tap.channels or 0
        for path in tap.modules:
            try:
                module = encoder.get_submodule(path)
            except AttributeError as error:
                raise PluginError(
                    f"the encoder {type(encoder).__name__} has no module {path!r} to read features from ({error}). "
                    "diff3r.head=fixed does without them."
                ) from error
            self.channels = self.channels or _channels(module, tap)
            register = module.register_forward_pre_hook if tap.side == "input" else module.register_forward_hook
            self._handles.append(register(self._read))

    def forget(self) -> None:
        """Drop what was read; called before each call of the encoder."""
        self._kept.clear()

    def take(self, batch: int, views: int, height: int, width: int) -> Float[Tensor, "B V C H W"]:
        """The latest feature map, detached; it is forgotten afterwards.

        Raises:
            PluginError: if the modules were not called since, or the tensors do not fit the layout.
        """
        kept, self._kept = self._kept, []
        names, layout = ", ".join(self.tap.modules), self.tap.layout
        if not kept:
            raise PluginError(f"the encoder did not call {names}; no features were read.")
        known = {"b": batch, "c": self.channels}
        if "(h w)" in layout:
            known |= {"h": height, "w": width}
        try:
            if "v" not in layout:
                features = torch.stack([rearrange(t, f"{layout} -> b c h w", **known) for t in kept], 1)
            else:
                features = rearrange(kept[-1], f"{layout} -> b v c h w", v=views, **known)
            if features.shape[1] != views:
                raise ValueError(f"{features.shape[1]} maps for {views} views")
            return features
        except Exception as error:
            raise PluginError(
                f"features of {names} have shape {list(kept[-1].shape)}, which does not fit {layout!r} with {known}: "
                f"{error}"
            ) from error

    def remove(self) -> None:
        """Stop reading."""
        for handle in self._handles:
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        # a copy of the encoder has a copy of this, which nobody would empty
        return {**vars(self), "_kept": [], "_reads": False}

    def _read(self, module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
        value = inputs[0] if self.tap.side == "input" else output
        if self._reads and isinstance(value, Tensor):
            self._kept.append(value.detach())


def _channels(module: nn.Module, tap: Tap) -> int:
    names = ("in_channels", "in_features") if tap.side == "input" else ("out_channels", "out_features")
    layers = [m for m in module.modules() if any(isinstance(getattr(m, n, None), int) for n in names)]
    if not layers:
        raise PluginError(
            f"cannot tell how many channels the {tap.side} of {', '.join(tap.modules)} has; state Tap.channels. "
            "diff3r.head=fixed does without features."
        )
    layer = layers[0] if tap.side == "input" else layers[-1]
    return next(getattr(layer, n) for n in names if isinstance(getattr(layer, n, None), int))
