"""The loop of a host that trains without Lightning, around one model: its steps, its optimizer, its checkpoints.

The optimizer is the one that holds the model's parameters. The heads travel in the metadata of the model's state dict,
into whatever file.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import torch
from torch import distributed, nn

from diff3r_plugin.plugin import checkpoints
from diff3r_plugin.plugin.attachment import Attachment, attachment_of
from diff3r_plugin.plugin.errors import announced
from diff3r_plugin.plugin.host_loop import ATTRIBUTE
from diff3r_plugin.plugin.run_context import RunContext
from diff3r_plugin.strict_json import strict

METRICS = "diff3r_metrics.jsonl"


class PlainLoop:
    """The loop around one model (a `HostLoop`).

    Args:
        model: The host's model.
        context: The run's settings and adapter.
    """

    rank = property(lambda self: distributed.get_rank() if _several() else 0)
    ranks = property(lambda self: distributed.get_world_size() if _several() else 1)
    clip_value = None
    gradient_scale = 1.0  # Adam does not mind another one
    resuming = False  # the heads' optimizer goes on when the host's own is loaded

    def __init__(self, model: nn.Module, context: RunContext) -> None:
        self.model, self.context = model, context
        self.token = uuid4().hex
        _LOOPS[self.token] = self
        self.step = 0
        self.copies: weakref.WeakSet[_LoopOfACopy] = weakref.WeakSet()
        self._optimizer: torch.optim.Optimizer | None = None
        self._held = 0
        self._handles: list[Any] = []
        self._stored: dict[str, Any] | None = None
        self._host_resumed = False
        model._register_state_dict_hook(_saved)
        model._register_load_state_dict_pre_hook(_loaded, with_module=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _LoopOfACopy.made, (self.token,)

    @property
    def attachment(self) -> Attachment:
        found = attachment_of(self.model)
        assert found is not None
        return found

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the heads' optimizer follow this one if it holds more of the model's parameters than any before."""
        own = {id(parameter) for parameter in self.model.parameters()}
        held = sum(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])
        if not held or held < self._held:
            return
        for handle in self._handles:
            handle.remove()
        self._optimizer, self._held = optimizer, held
        self.attachment.head.follow(optimizer)
        self._handles = [
            optimizer.register_step_post_hook(self._stepped),
            optimizer.register_load_state_dict_post_hook(self._resumed),
        ]

    def log(self, figures: Mapping[str, float], stage: str, scenes: int) -> None:
        settings = self.context.settings
        if self.rank or (stage == "train" and self.step % settings.log_every):
            return
        folder = self.attachment.reporter.test.folder()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / METRICS).open("a") as lines:
            lines.write(json.dumps(strict({"step": self.step, **figures}), allow_nan=False) + "\n")

    def wait(self, purpose: str) -> None:
        distributed.barrier()

    def _stepped(self, *_: Any) -> None:
        self.step += 1

    def entry(self) -> dict[str, Any]:
        """What a checkpoint holds of the plugin."""
        checkpoint: dict[str, Any] = {}
        checkpoints.save(self.context, self.attachment.head, checkpoint)
        return {**checkpoint[checkpoints.KEY], "step": self.step}

    def load(self, entry: dict[str, Any]) -> None:
        """Take the heads from what a checkpoint holds of the plugin; the optimizer's state waits for the host's.

        Raises:
            PluginError: if a head does not fit the present settings.
        """
        load = announced(checkpoints.load, self.context.report_error)
        load(self.context, self.attachment.head, {checkpoints.KEY: entry})
        self._stored = entry
        self._go_on()

    def _resumed(self, *_: Any) -> None:
        self._host_resumed = True
        self._go_on()

    def _go_on(self) -> None:
        """Once the host has loaded its model and its optimizer, in whatever order."""
        if self._stored and self._host_resumed:
            self.attachment.head.restore_optimizer(self._stored.get("optimizer"))
            self.step = int(self._stored.get("step", 0))
            self._stored, self._host_resumed = None, False


_LOOPS: weakref.WeakValueDictionary[str, PlainLoop] = weakref.WeakValueDictionary()


class _LoopOfACopy:
    """What a copy of a model has: hosts train one, and save a running mean of its weights with the head of the run."""

    def __init__(self, loop: PlainLoop) -> None:
        self.loop = loop

    @classmethod
    def made(cls, token: str) -> _LoopOfACopy | None:
        """For a copy in this process; None for one that was pickled in another."""
        if token not in _LOOPS:
            return None
        copy = cls(_LOOPS[token])
        copy.loop.copies.add(copy)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return _LoopOfACopy.made, (self.loop.token,)

    def entry(self) -> dict[str, Any]:
        return self.loop.entry()

    def load(self, entry: dict[str, Any]) -> None:
        """The model itself is what the head is loaded with."""


def _saved(model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
    """After ``state_dict()`` of a model, wherever it stands in another one; a function, for copies share it."""
    loop = vars(model).get(ATTRIBUTE)
    if loop is not None:
        metadata[checkpoints.KEY] = loop.entry()


def _loaded(model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any], *_: Any) -> None:
    """Before ``load_state_dict()`` of a model."""
    loop = vars(model).get(ATTRIBUTE)
    if loop is not None:
        loop.load(metadata.get(checkpoints.KEY) or {})


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
