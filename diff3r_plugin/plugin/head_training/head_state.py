"""The trained heads of one model of a host: their modules, their optimizer, whether a checkpoint gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_training.head_optimizer import HeadOptimizer
from diff3r_plugin.plugin.host.host_loop import loop_of

PREFIX = "diff3r_"
"""Of the heads' names among the submodules of the host's LightningModule (``diff3r_head``, ``diff3r_confidence``)."""

HeadValues = tuple[dict[str, dict[str, Any]], frozenset[str]]
"""State dicts of heads by name, and the names of those that came from a checkpoint."""


class HeadState:
    """The heads, where they are registered, and what trains them.

    Args:
        modules: By name: "head" predicts the proximal weights, "confidence" the pixel weights; None for one that the
            settings leave out.
        wrapper: The host's LightningModule, which moves the heads to its device and lets DDP average their gradients,
            but neither saves nor optimizes them, nor finds them among its parameters: hosts clip or test all of them,
            and a gradient of a head must not decide whether the host steps.
        learning_rate_multiplier: Learning rate of the heads, in units of the host's current one.

    Attributes:
        carried: Whether the wrapper is a copy of one that had heads, of which it has copies; ours take their place.
        optimizer: What trains the heads, once the host has its own optimizer.
        loaded: Names of the heads that came from a checkpoint.
    """

    def __init__(self, modules: Mapping[str, nn.Module | None], wrapper: Any, learning_rate_multiplier: float) -> None:
        self.modules = {name: module for name, module in modules.items() if module is not None}
        self.wrapper, self.learning_rate_multiplier = wrapper, learning_rate_multiplier
        self.optimizer: HeadOptimizer | None = None
        self.loaded: frozenset[str] = frozenset()
        self._pending_optimizer: dict[str, Any] | None = None
        device = next(wrapper.parameters()).device
        former = dict(wrapper.named_children())
        self.carried = any(PREFIX + name in former for name in self.modules)
        for name, module in self.modules.items():
            if PREFIX + name not in former:
                keep_out_of_state_dict(wrapper, PREFIX + name)
            wrapper.add_module(PREFIX + name, module.to(device))

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """The heads' parameters that take gradients."""
        return [p for module in self.modules.values() for p in module.parameters() if p.requires_grad]

    @property
    def untrained(self) -> list[str]:
        """Names of the heads that no checkpoint gave and no step has trained."""
        if self.optimizer is not None and self.optimizer.state_dict().get("state"):
            return []
        return [name for name in self.modules if name not in self.loaded]

    def say_if_untrained(self, what: str, say: Callable[[str], None]) -> None:
        """Say that a test, or a resumed training, has heads that are as they were made."""
        if self.untrained:
            names = " and ".join("uncertainty head" if name == "head" else f"{name} head" for name in self.untrained)
            say(
                f"{what} with an untrained {names}: no checkpoint that was loaded had one, in it or beside it "
                "(FILE.diff3r). diff3r.head=fixed says so outright."
            )

    def values(self) -> HeadValues:
        """What the heads are now."""
        return {name: module.state_dict() for name, module in self.modules.items()}, self.loaded

    def take(self, values: HeadValues) -> None:
        """Let the heads be what those of another model are, or were."""
        states, self.loaded = values
        for name, module in self.modules.items():
            module.load_state_dict(states[name])

    @property
    def left_out(self) -> Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]:
        """Makes of the model's ``named_parameters`` (on which its ``parameters`` rest) one without the heads'."""
        return partial(_without, tuple(PREFIX + name for name in self.modules))

    def follow(self, configured: Any) -> None:
        """Let the heads' optimizer follow the host's, found in what ``configure_optimizers`` returned.

        Raises:
            PluginError: if there is no optimizer in it.
        """
        if not self.modules:
            return
        host = _first_optimizer(configured)
        if host is None:
            raise PluginError(f"configure_optimizers of the host returned no optimizer: {type(configured).__name__}.")
        if self.optimizer is not None:
            self.optimizer.remove()
        self.optimizer = HeadOptimizer(
            nn.ModuleDict(self.modules),
            host,
            self.learning_rate_multiplier,
            clip=self._clip_value,
            scale=self._gradient_scale,
        )
        self.restore_optimizer(self._pending_optimizer)

    def restore_optimizer(self, state: dict[str, Any] | None) -> None:
        """Continue the heads' optimizer from a checkpoint, now or once it exists."""
        if state is not None and self.optimizer is not None:
            self.optimizer.load_state_dict(state)
            state = None
        self._pending_optimizer = state

    def _clip_value(self) -> float | None:
        return loop_of(self.wrapper).clip_value

    def _gradient_scale(self) -> float:
        return loop_of(self.wrapper).gradient_scale


def _without(modules: tuple[str, ...], named_parameters: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """``named_parameters`` of a module without those of some of its submodules."""

    def others(prefix: str = "", *args: Any, **kwargs: Any) -> Iterator[Any]:
        left_out = tuple(f"{prefix}.{name}." if prefix else f"{name}." for name in modules)
        return (item for item in named_parameters(prefix, *args, **kwargs) if not item[0].startswith(left_out))

    return others


def keep_out_of_state_dict(wrapper: nn.Module, name: str) -> None:
    """Let a submodule appear neither in ``wrapper.state_dict()`` nor among the keys that loading asks for."""
    prefix = name + "."

    def remove(module: nn.Module, state: dict[str, Any], at: str, metadata: Any) -> None:
        for key in [key for key in state if key.startswith(at + prefix)]:
            del state[key]

    def forgive(module: nn.Module, incompatible: Any) -> None:
        missing = incompatible.missing_keys  # each with the path of the wrapper, if that is inside another module
        missing[:] = [key for key in missing if f".{prefix}" not in f".{key}"]

    wrapper._register_state_dict_hook(remove)
    wrapper.register_load_state_dict_post_hook(forgive)


def _first_optimizer(configured: Any) -> torch.optim.Optimizer | None:
    if isinstance(configured, torch.optim.Optimizer):
        return configured
    if isinstance(configured, dict):
        return _first_optimizer(configured.get("optimizer"))
    if isinstance(configured, (list, tuple)):
        return next((found for item in configured if (found := _first_optimizer(item)) is not None), None)
    return None
