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
        module: Dotted path of a submodule below the encoder, one that is called (not its ``forward``).
        side: "input" (first positional argument) or "output".
        layout: einops pattern of the tensor with the letters b v c h w, for instance ``"(v b) c h w"``.
        channels: Number of channels; None: that of the first layer of the module that states one.
    """

    module: str
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
        self._latest: Tensor | None = None
        try:
            module = encoder.get_submodule(tap.module)
        except AttributeError as error:
            raise PluginError(
                f"the encoder {type(encoder).__name__} has no module {tap.module!r} to read features from ({error})."
            ) from error
        self.channels = tap.channels or _channels(module, tap)
        if tap.side == "input":
            self._handle = module.register_forward_pre_hook(self._read_input)
        else:
            self._handle = module.register_forward_hook(self._read_output)

    def take(self, batch: int, views: int, height: int, width: int) -> Float[Tensor, "B V C H W"]:
        """The latest feature map, detached; it is forgotten afterwards.

        Raises:
            PluginError: if the module was not called since, or the tensor does not fit the layout.
        """
        latest, self._latest = self._latest, None
        if latest is None:
            raise PluginError(f"the encoder did not call its module {self.tap.module!r}; no features were read.")
        known = {"b": batch, "v": views, "c": self.channels}
        if "(h w)" in self.tap.layout:
            known |= {"h": height, "w": width}
        try:
            return rearrange(latest, f"{self.tap.layout} -> b v c h w", **known)
        except Exception as error:
            raise PluginError(
                f"features of {self.tap.module!r} have shape {list(latest.shape)}, which is not "
                f"{self.tap.layout!r} with {known}: {error}"
            ) from error

    def remove(self) -> None:
        """Stop reading."""
        self._handle.remove()

    def _keep(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._latest = value.detach()

    def _read_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._keep(inputs[0])

    def _read_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._keep(output)


def _channels(module: nn.Module, tap: Tap) -> int:
    names = ("in_channels", "in_features") if tap.side == "input" else ("out_channels", "out_features")
    layers = [m for m in module.modules() if any(isinstance(getattr(m, n, None), int) for n in names)]
    if not layers:
        raise PluginError(f"cannot tell how many channels the {tap.side} of {tap.module!r} has; state Tap.channels.")
    layer = layers[0] if tap.side == "input" else layers[-1]
    return next(getattr(layer, n) for n in names if isinstance(getattr(layer, n, None), int))


def usable(tensor: Tensor) -> Tensor:
    """The tensor, as one that autograd accepts: a copy where it was made in inference mode."""
    return tensor.clone() if torch.is_inference(tensor) else tensor
