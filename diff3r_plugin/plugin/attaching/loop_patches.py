"""Hosts that train in a loop of their own, without Lightning: where their steps begin and end, seen from outside.

A batch that a data loader hands out begins a step, which ends when the next one is asked for.
"""

from __future__ import annotations

import atexit
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch

from diff3r_plugin.plugin.attaching.attachment import Attachment
from diff3r_plugin.plugin.attaching.drawn_step import DrawnStep
from diff3r_plugin.plugin.attaching.patching import Patch, around
from diff3r_plugin.plugin.attaching.plain_loop import PlainLoop, loops_of
from diff3r_plugin.plugin.errors import PluginError, announced
from diff3r_plugin.plugin.head_training import sidecar
from diff3r_plugin.plugin.host.host_loop import ATTRIBUTE
from diff3r_plugin.plugin.host.run_context import RunContext

NEED_THE_LOSS = ("unrefined_loss", "confidence_supervision")
"""Settings that add to the host's loss, which a loop of its own shows to nobody."""

END = object()
"""After the last batch of a loader."""

CHECKPOINTS = "torch.save, torch.load and those of safetensors"
MODEL, LOADER, OPTIMIZER = "__init__", "__iter__ of its data loader", "torch.optim.Optimizer.__init__"

WATCHED = {
    MODEL: "adds the uncertainty head and replaces the encoder's refined method on the instance",
    LOADER: "a batch begins a step: encoder calls until the next one are refined and reported",
    OPTIMIZER: "the head's optimizer follows the one that holds the model's parameters",
    CHECKPOINTS: "files that lose that metadata get a neighbor with the head, FILE.diff3r, which is read with them",
    "state_dict": "puts the head into the state dict's metadata, and takes it from there",
}
"""What is changed or watched, and why."""


def loop_patches(context: RunContext, model_class: type) -> list[Patch]:
    """Every change that is made for a host that trains in a loop of its own.

    Raises:
        PluginError: for settings that are unavailable here.
    """
    for name in NEED_THE_LOSS:
        if getattr(context.settings, name):
            raise PluginError(
                f"diff3r.{name} adds to the loss of the host, which adapter {context.adapter.name!r} cannot reach: "
                "its host trains in a loop of its own. Set it to 0."
            )
    watch = PlainLoops(context)
    model_made = around(announced(watch.model_made, context.report_error))
    loaders = dict.fromkeys((context.adapter.loader_class(), *looking_ahead()))
    return [
        Patch(model_class, "__init__", model_made, WATCHED[MODEL]),
        *(Patch(loader, "__iter__", around(watch.batches), WATCHED[LOADER]) for loader in loaders),
        Patch(torch.optim.Optimizer, "__init__", around(watch.optimizer_made), WATCHED[OPTIMIZER]),
        *watch.checkpoint_patches(),
    ]


def looking_ahead() -> list[type]:
    """Loaders that ask another one for a batch before the last one has been worked on: accelerate's, if it is there.

    What such a loader hands out begins a step, not what it is handed.
    """
    if "accelerate" not in sys.modules:
        return []
    module = importlib.import_module("accelerate.data_loader")
    return [getattr(module, name) for name in ("DataLoaderShard", "DataLoaderDispatcher") if hasattr(module, name)]


class PlainLoops:
    """The loops of all models of a host in this process.

    Args:
        context: The run's settings and adapter.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self._refined = 0
        self._told_of_copies = False
        self._within_a_loader = False
        atexit.register(self._say_if_nothing_was_refined)

    def model_made(self, original: Any, model: Any, *args: Any, **named: Any) -> None:
        """A model with the plugin attached to it."""
        original(model, *args, **named)
        if vars(model).get(ATTRIBUTE) is None:
            vars(model)[ATTRIBUTE] = loop = PlainLoop(model, self.context)
            _ = loop.attachment

    def optimizer_made(self, original: Any, optimizer: torch.optim.Optimizer, *args: Any, **named: Any) -> None:
        """Maybe that of one of the models."""
        original(optimizer, *args, **named)
        for loop in loops_of(self.context):
            loop.follow(optimizer)

    def batches(self, original: Any, loader: Any) -> Iterator[Any]:
        """What the host iterates over: a step of each model for every batch; a test ends with its loader."""
        if self._within_a_loader:  # one that looks ahead: its own batches are the host's
            yield from original(loader)
            return
        steps: list[tuple[Attachment, DrawnStep]] = []
        tested: dict[int, Attachment] = {}
        drawn = iter(original(loader))
        try:
            while (batch := self._next(drawn)) is not END:
                only = self._tested_alone(loader)
                if only is not None:
                    tested |= self._begun(only)
                    if only.reporter.leaves_out(batch):
                        continue  # an interrupted test is resumed
                steps = [(loop.attachment, self._drawn(loop, loader, batch)) for loop in loops_of(self.context)]
                with ExitStack() as stack:
                    for attachment, step in steps:
                        stack.enter_context(attachment.calls.within(step))
                    yield batch
                tested |= self._ended(steps)
                steps = []
        except GeneratorExit:
            if sys.is_finalizing():  # the program has failed: an interrupted test is none that has ended
                raise
            self._finished(tested | self._ended(steps))
            raise
        self._finished(tested)

    def _next(self, drawn: Iterator[Any]) -> Any:
        outer, self._within_a_loader = self._within_a_loader, True
        try:
            return next(drawn, END)
        finally:
            self._within_a_loader = outer

    def checkpoint_patches(self) -> list[Patch]:
        """What watches the files that hosts write their models to and read them from (`sidecar`)."""
        patches = [
            Patch(torch, "save", sidecar.around_torch_save(self._saved), WATCHED[CHECKPOINTS]),
            Patch(torch, "load", sidecar.around_loading(self._loaded), WATCHED[CHECKPOINTS]),
        ]
        files = sidecar.safetensors()
        if files is not None:
            patches += [
                Patch(files, "serialize_file", sidecar.around_serialize(self._saved), WATCHED[CHECKPOINTS]),
                Patch(files, "safe_open", sidecar.around_loading(self._loaded), WATCHED[CHECKPOINTS]),
            ]
        return patches

    def _saved(self, path: Any, names: list[str]) -> None:
        for loop in loops_of(self.context):
            if loop.attachment.head.modules and sidecar.holds(names, loop.model):
                sidecar.write(path, loop.entry())
                return

    def _loaded(self, path: Any) -> None:
        entry = sidecar.read(path)
        if entry is not None:
            for loop in loops_of(self.context):
                loop.load(entry)

    def _drawn(self, loop: PlainLoop, loader: Any, batch: Any) -> DrawnStep:
        loop.attachment.take_in_copies()
        return DrawnStep(self.context.adapter, loader, batch, None if loop.trained is None else loop)

    def _attachments(self) -> list[Attachment]:
        return [loop.attachment for loop in loops_of(self.context)]

    def _tested_alone(self, loader: Any) -> Attachment | None:
        """The only model there is, if it is about to be tested and may have been interrupted in that."""
        attachments = self._attachments()
        if "test" not in self.context.settings.refine or len(attachments) != 1:
            return None
        stage = self.context.adapter.stage(attachments[0].wrapper, loader)
        return attachments[0] if stage == "test" else None

    def _begun(self, attachment: Attachment) -> dict[int, Attachment]:
        """Begin a test of a model unless one is under way; returns it if so, for who begins a test ends it.

        Of several models it is not known beforehand which will be tested: an interrupted test starts anew.
        """
        test, attachments = attachment.reporter.test, self._attachments()
        if test.lines is not None:
            return {}
        others = sum(other.reporter.test.lines is not None for other in attachments)
        test.subfolder = f"model_{others + 1}" if others else ""
        test.begin(go_on=len(attachments) == 1)
        attachment.head.say_if_untrained("this test begins", self.context.say)
        return {id(attachment): attachment}

    def _ended(self, steps: list[tuple[Attachment, DrawnStep]]) -> dict[int, Attachment]:
        """Report on the steps of a batch; returns the models whose test that began."""
        tested: dict[int, Attachment] = {}
        for attachment, step in steps:
            self._refined += len(step.calls)
            self._say_if_unclear(step)
            with attachment.calls.left_alone():
                if step.stage == "test" and step.calls:  # maybe one of several models, and the only one that is tested
                    tested |= self._begun(attachment)
                attachment.reporter.report(step)
                if step.stage == "train" and attachment.base_search is not None:
                    attachment.base_search.observe(step)
        return tested

    def _finished(self, tested: Mapping[int, Attachment]) -> None:
        for attachment in tested.values():
            attachment.reporter.finish_test()

    def _say_if_unclear(self, step: DrawnStep) -> None:
        """Once, after a copy of the model was left alone that may have been evaluated."""
        if step.unclear and not self._told_of_copies:
            self._told_of_copies = True
            self.context.say(
                "a copy of the model (a running mean of its weights?) was asked while the model itself is in training "
                f"mode, and was not refined: adapter {self.context.adapter.name!r} tells an evaluation from a step of "
                "the training by the model's mode alone. Give it a `stage` that tells by the loader, or let the host "
                "put its model into evaluation mode."
            )

    def _say_if_nothing_was_refined(self) -> None:
        if not self._refined and self.context.settings.refine:
            self.context.say(
                f"nothing was refined: no {self.context.adapter.wrapper} called its encoder between two batches of a "
                f"{self.context.adapter.loader}, from which the steps of this host are told."
            )
