"""The uncertainty head of one model of a host: its module, its optimizer, whether a checkpoint gave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_optimizer import HeadOptimizer

ATTRIBUTE = "diff3r_head"
"""Name of the head among the submodules of the host's LightningModule."""


class HeadState:
    """The head, where it is registered, and what trains it.

    Args:
        module: The head; None where the weights are fixed.
        wrapper: The host's LightningModule, which moves the head to its device and lets DDP average its gradients, but
            neither saves nor optimizes it, nor finds it among its parameters: hosts clip or test all of them, and a
            gradient of the head must not decide whether the host steps.
        learning_rate_multiplier: Learning rate of the head, in units of the host's current one.

    Attributes:
        optimizer: What trains the head, once the host has its own optimizer.
        loaded: Whether the head came from a checkpoint.
    """

    def __init__(self, module: nn.Module | None, wrapper: Any, learning_rate_multiplier: float) -> None:
        self.module, self.wrapper, self.learning_rate_multiplier = module, wrapper, learning_rate_multiplier
        self.optimizer: HeadOptimizer | None = None
        self.loaded = False
        self._pending_optimizer: dict[str, Any] | None = None
        if module is not None:
            wrapper.add_module(ATTRIBUTE, module.to(next(wrapper.parameters()).device))
            keep_out_of_state_dict(wrapper, ATTRIBUTE)

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """The head's parameters that take gradients."""
        return [] if self.module is None else [p for p in self.module.parameters() if p.requires_grad]

    @staticmethod
    def left_out(named_parameters: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The model's ``named_parameters`` (on which its ``parameters`` rest) without the head's."""

        def host_parameters(prefix: str = "", *args: Any, **kwargs: Any) -> Iterator[Any]:
            of_the_head = f"{prefix}.{ATTRIBUTE}." if prefix else f"{ATTRIBUTE}."
            return (item for item in named_parameters(prefix, *args, **kwargs) if not item[0].startswith(of_the_head))

        return host_parameters

    def follow(self, configured: Any) -> None:
        """Let the head's optimizer follow the host's, found in what ``configure_optimizers`` returned.

        Raises:
            PluginError: if there is no optimizer in it.
        """
        if self.module is None:
            return
        host = _first_optimizer(configured)
        if host is None:
            raise PluginError(f"configure_optimizers of the host returned no optimizer: {type(configured).__name__}.")
        if self.optimizer is not None:
            self.optimizer.remove()
        self.optimizer = HeadOptimizer(
            self.module, host, self.learning_rate_multiplier, clip=self._clip_value, scale=self._gradient_scale
        )
        self.restore_optimizer(self._pending_optimizer)

    def restore_optimizer(self, state: dict[str, Any] | None) -> None:
        """Continue the head's optimizer from a checkpoint, now or once it exists."""
        if state is not None and self.optimizer is not None:
            self.optimizer.load_state_dict(state)
            state = None
        self._pending_optimizer = state

    def _clip_value(self) -> float | None:
        return getattr(self.wrapper.trainer, "gradient_clip_val", None)

    def _gradient_scale(self) -> float:
        scaler = getattr(self.wrapper.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())


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
