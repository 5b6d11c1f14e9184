"""Trains the uncertainty head beside the host's own optimizer, which never learns of it.

A parameter group added to the host's optimizer would change its checkpoints, its schedules and its gradient clipping.
So the head has an Adam of its own that steps whenever the host's optimizer has stepped, at a multiple of the host's
current learning rate (the largest of its groups: hosts that sort parameters by name give new modules that one).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class HeadOptimizer:
    """Adam for the head, driven by the host's optimizer.

    Args:
        head: Module with the parameters to train.
        host: The host's optimizer.
        multiplier: Learning rate in units of the host's current one.
        clip: Function that returns the largest gradient norm allowed, or None for no limit.
        scale: Function that returns the factor by which gradients are scaled (mixed precision), normally 1.
    """

    def __init__(
        self, head: nn.Module, host: torch.optim.Optimizer, multiplier: float, clip: Any = None, scale: Any = None
    ) -> None:
        self.host, self.multiplier = host, multiplier
        self.skipped = 0
        self._clip, self._scale = clip or (lambda: None), scale or (lambda: 1.0)
        self._parameters = [p for p in head.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(self._parameters, lr=0.0)
        self._handle = host.register_step_post_hook(self._step)
        # A step that the host skips (a loss scaler that met infinities, a host that tests gradients itself) calls no
        # hook; the gradients of the step before must be gone all the same when the next backward pass adds to them.
        self._host_zero_grad = host.zero_grad
        host.zero_grad = self._zero_grad  # type: ignore[method-assign]

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self.multiplier * max(float(group["lr"]) for group in self.host.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._adam.load_state_dict(state)

    def remove(self) -> None:
        """Stop following the host's optimizer."""
        self._handle.remove()
        del self.host.zero_grad  # the instance's; the class's is in force again

    def _zero_grad(self, *args: Any, **kwargs: Any) -> None:
        self._host_zero_grad(*args, **kwargs)
        self._forget_gradients()

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _step(self, *_: Any) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            return
        scale = self._scale()
        if scale != 1.0:
            torch._foreach_div_(gradients, scale)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        if bool(torch.isfinite(norm)):
            limit = self._clip()
            if limit:
                torch._foreach_mul_(gradients, float(torch.clamp(limit / (norm + 1e-6), max=1.0)))
            for group in self._adam.param_groups:
                group["lr"] = self.learning_rate
            self._adam.step()
        else:
            self.skipped += 1  # a scene whose backward failed must not corrupt the head
        self._forget_gradients()
