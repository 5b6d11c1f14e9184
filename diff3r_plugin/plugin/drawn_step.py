"""A step that a drawn batch began; what it is for shows when the model first works on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from diff3r_plugin.plugin.adapter import HostAdapter
from diff3r_plugin.plugin.step import Step


class DrawnStep(Step):
    """From one batch of a loader to the next, in a loop that says nothing of stages.

    Hosts draw a batch and then switch their model between training and evaluation, and look at other data in between:
    the stage is that of the first encoder call, and calls in the model's other mode are none of this step.

    Args:
        adapter: Tells the stage.
        loader: Gave the batch.
        batch: As it was given.
    """

    def __init__(self, adapter: HostAdapter, loader: Any, batch: Any) -> None:
        super().__init__("", batch)
        self.adapter, self.loader = adapter, loader
        self._training: bool | None = None

    @property
    def asked(self) -> bool:
        """Whether the model has worked on anything since the batch was drawn."""
        return self._training is not None

    def takes_in(self, model: nn.Module) -> bool:
        if self._training is None:
            self._training = model.training
            self.stage = self.adapter.stage(model, self.loader) or ""
            if self.stage:
                device = next(model.parameters()).device  # to which the host moves what it needs by itself
                self.batch = tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, self.batch)
        return model.training == self._training
