"""Hosts that train in a loop of their own, without Lightning: what can be seen of such a loop from outside.

A batch that a data loader hands out begins a step, which ends when the next one is asked for. The optimizer is the one
that holds the model's parameters. The heads travel in the metadata of the model's state dict, into whatever file.
"""

from __future__ import annotations

import atexit
import json
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import distributed, nn
from torch.utils._pytree import tree_map

from diff3r_plugin.plugin import checkpoints
from diff3r_plugin.plugin.attachment import Attachment, attachment_of
from diff3r_plugin.plugin.errors import PluginError, announced
from diff3r_plugin.plugin.host_loop import ATTRIBUTE
from diff3r_plugin.plugin.patching import Patch, around
from diff3r_plugin.plugin.run_context import RunContext
from diff3r_plugin.plugin.step import Step
from diff3r_plugin.strict_json import strict

METRICS = "diff3r_metrics.jsonl"

NEED_THE_LOSS = ("unrefined_loss", "confidence_supervision")
"""Settings that add to the host's loss, which a loop of its own shows to nobody."""

WATCHED = {
    "__init__": "adds the uncertainty head and replaces encoder.forward on the instance",
    "__iter__ of its data loader": "a batch begins a step: encoder calls until the next one are refined and reported",
    "torch.optim.Optimizer.__init__": "the head's optimizer follows the one that holds the model's parameters",
    "state_dict": "puts the head into the state dict's metadata, and takes it from there",
}
"""What is changed or watched, and why."""


def loop_patches(context: RunContext, model_class: type) -> list[Patch]:
    """Every change that is made for a host that trains in a loop of its own.

    Raises:
        PluginError: for settings that cannot be had here.
    """
    for name in NEED_THE_LOSS:
        if getattr(context.settings, name):
            raise PluginError(
                f"diff3r.{name} adds to the loss of the host, which adapter {context.adapter.name!r} cannot reach: "
                "its host trains in a loop of its own. Set it to 0."
            )
    watch, (init, iterate, optimizer, _) = PlainLoops(context), WATCHED.values()
    return [
        Patch(model_class, "__init__", around(announced(watch.model_made, context.report_error)), init),
        Patch(context.adapter.loader_class(), "__iter__", around(watch.batches), iterate),
        Patch(torch.optim.Optimizer, "__init__", around(watch.optimizer_made), optimizer),
    ]


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
        self.step = 0
        self._optimizer: torch.optim.Optimizer | None = None
        self._held = 0
        self._handles: list[Any] = []
        self._stored: dict[str, Any] | None = None
        self._host_resumed = False
        model._register_state_dict_hook(_saved)
        model._register_load_state_dict_pre_hook(_loaded, with_module=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # copies of the model are the host's alone

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
        checkpoints.load(self.context, self.attachment.head, {checkpoints.KEY: entry})
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


class PlainLoops:
    """The loops of all models of a host in this process.

    Args:
        context: The run's settings and adapter.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self._models: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._refined = 0
        atexit.register(self._say_if_nothing_was_refined)

    def model_made(self, original: Any, model: Any, *args: Any, **named: Any) -> None:
        """A model with the plugin attached to it."""
        original(model, *args, **named)
        if attachment_of(model) is None:
            vars(model)[ATTRIBUTE] = PlainLoop(model, self.context)
            vars(model)["_diff3r"] = Attachment(model, self.context)
            self._models.add(model)

    def optimizer_made(self, original: Any, optimizer: torch.optim.Optimizer, *args: Any, **named: Any) -> None:
        """Maybe that of one of the models."""
        original(optimizer, *args, **named)
        for model in self._models:
            vars(model)[ATTRIBUTE].follow(optimizer)

    def batches(self, original: Any, loader: Any) -> Iterator[Any]:
        """What the host iterates over: a step of each model for every batch; a test ends with its loader."""
        steps: list[tuple[Attachment, Step]] = []
        tested: dict[int, Attachment] = {}
        try:
            for batch in original(loader):
                steps = self._begun(loader, batch)
                tested |= {id(a): a for a, step in steps if step.stage == "test"}
                if (
                    len(steps) == 1
                    and steps[0][1].stage == "test"
                    and steps[0][0].reporter.leaves_out(steps[0][1].batch)
                ):
                    continue  # an interrupted test goes on, and these scenes have their scores
                with ExitStack() as stack:
                    for attachment, step in steps:
                        stack.enter_context(attachment.calls.within(step))
                    yield batch
                self._ended(steps)
                steps = []
        except GeneratorExit:
            if sys.is_finalizing():  # the program has failed: an interrupted test is none that has ended
                raise
            self._ended(steps)
            self._finished(tested)
            raise
        self._finished(tested)

    def _begun(self, loader: Any, batch: Any) -> list[tuple[Attachment, Step]]:
        begun = []
        for model in self._models:
            stage, attachment = self.context.adapter.stage(model, loader), attachment_of(model)
            if attachment is not None and stage in self.context.settings.refine:
                device = next(model.parameters()).device  # to which the host moves what it needs by itself
                on_device = tree_map(
                    lambda item, to=device: item.to(to) if isinstance(item, torch.Tensor) else item, batch
                )
                begun.append((attachment, Step(stage, on_device)))
        return begun

    def _ended(self, steps: list[tuple[Attachment, Step]]) -> None:
        for attachment, step in steps:
            self._refined += len(step.calls)
            with attachment.calls.left_alone():
                if step.stage == "test" and step.calls:  # maybe one of several models, and the only one that is tested
                    attachment.reporter.test.begin()
                attachment.reporter.report(step)
                if step.stage == "train" and attachment.base_search is not None:
                    attachment.base_search.observe(step)

    def _finished(self, tested: Mapping[int, Attachment]) -> None:
        for attachment in tested.values():
            attachment.reporter.finish_test()

    def _say_if_nothing_was_refined(self) -> None:
        if not self._refined and self.context.settings.refine:
            self.context.say(
                f"nothing was refined: no {self.context.adapter.wrapper} called its encoder between two batches of a "
                f"{self.context.adapter.loader}, from which the steps of this host are told."
            )


def _saved(model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
    """After ``state_dict()`` of a model, wherever it stands in another one; a function, for copies share it."""
    loop = vars(model).get(ATTRIBUTE)
    if loop is not None:
        metadata[checkpoints.KEY] = loop.entry()


def _loaded(model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any], *_: Any) -> None:
    """Before ``load_state_dict()`` of a model."""
    loop = vars(model).get(ATTRIBUTE)
    if loop is not None:
        announced(loop.load, loop.context.report_error)(metadata.get(checkpoints.KEY) or {})


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
