"""A step that a drawn batch began; what it is for shows when the model first works on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from diff3r_plugin.plugin.attaching.plain_loop import PlainLoop
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.refining.step import Step


class DrawnStep(Step):
    """From one batch of a loader to the next, in a loop that says nothing of stages.

    Hosts draw a batch and then switch their model between training and evaluation, and look at other data in between:
    the stage is that of the first encoder call, and calls in the model's other mode are none of this step.

    A running mean of the weights is only evaluated, in whatever mode it was left: some stay in that of training.

    Args:
        adapter: Tells the stage.
        loader: Gave the batch.
        batch: As it was given.
        copy: The loop of the model where that is a copy of the one that the host trains.

    Attributes:
        unclear: Whether a copy was asked while nothing told an evaluation from a step of the training.
    """

    def __init__(self, adapter: HostAdapter, loader: Any, batch: Any, copy: PlainLoop | None = None) -> None:
        super().__init__("", batch)
        self.adapter, self.loader, self.copy = adapter, loader, copy
        self.unclear = False
        self._training: bool | None = None

    def takes_in(self, model: nn.Module) -> bool:
        if self._training is None:
            self._training = model.training
            told = self.adapter.stage(model, self.loader) if self.copy is None else self._of_a_copy(model, self.copy)
            self.stage = told or ""
            if self.stage:
                device = next(model.parameters()).device  # to which the host moves what it needs by itself
                self.batch = tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, self.batch)
        return model.training == self._training

    def _of_a_copy(self, model: nn.Module, copy: PlainLoop) -> str | None:
        if copy.trained is None or (copy.trained.model.training and type(self.adapter).stage is HostAdapter.stage):
            self.unclear = True  # it may be the teacher of the model in a step of the training
            return None
        mode, model.training = model.training, False
        try:
            told = self.adapter.stage(model, self.loader)
        finally:
            model.training = mode
        if told == "train":
            return None
        copy.take_heads()
        return told
