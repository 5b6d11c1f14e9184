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
from torch import Tensor, distributed, nn

from diff3r_plugin.plugin.attaching.attachment import Attachment, attachment_of
from diff3r_plugin.plugin.errors import announced
from diff3r_plugin.plugin.head_training import checkpoints
from diff3r_plugin.plugin.head_training.head_state import HeadValues
from diff3r_plugin.plugin.host.host_loop import ATTRIBUTE
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.strict_json import strict

METRICS = "diff3r_metrics.jsonl"


class PlainLoop:
    """The loop around one model (a `HostLoop`).

    A model without an optimizer beside one that the host trains is a copy that the host evaluates: a running mean of
    the trained weights, or a snapshot of them. A mean uses the heads of the run as they are now, a snapshot those it
    was taken with.

    Args:
        model: The host's model.
        context: The run's settings and adapter.
        origin: Of a copy: the loop of the model that it is a copy of, what the weights were then (`_summed`), and the
            heads.
    """

    rank = property(lambda self: distributed.get_rank() if _several() else 0)
    ranks = property(lambda self: distributed.get_world_size() if _several() else 1)
    clip_value = None
    gradient_scale = 1.0  # Adam does not mind another one
    resuming = False  # the heads' optimizer resumes when the host's own is loaded

    def __init__(
        self,
        model: nn.Module,
        context: RunContext,
        origin: tuple[PlainLoop, list[float], HeadValues] | None = None,
    ) -> None:
        self.model, self.context = model, context
        self.token = uuid4().hex
        self._steps = 0
        self._original = None if origin is None else weakref.ref(origin[0])
        self._carried = None if origin is None else origin[2]
        self._optimizer: torch.optim.Optimizer | None = None
        self._held = 0
        self._handles: list[Any] = []
        self._stored: dict[str, Any] | None = None
        self._host_resumed = self._just_resumed = False
        if origin is None:  # a copy has them already
            model._register_state_dict_hook(_saved)
            model._register_load_state_dict_pre_hook(_loaded, with_module=True)
            model.register_load_state_dict_post_hook(_loaded_whole)
        self._weights = _summed(model) if origin is None else origin[1]
        _LOOPS[self.token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        heads = (self.trained if self.trained is not None and self._is_a_mean else self).attachment.head.values()
        # within a copy of the model, the second argument is that copy
        return _of_a_copy, (self.token, self.model, _summed(self.model), heads)

    @property
    def attachment(self) -> Attachment:
        if attachment_of(self.model) is None:
            vars(self.model)["_diff3r"] = attachment = Attachment(self.model, self.context)
            if self._carried is not None:
                attachment.head.take(self._carried)
        found = attachment_of(self.model)
        assert found is not None
        return found

    @property
    def trained(self) -> PlainLoop | None:
        """The loop of the model that the host trains, where this one's is a copy of it; else None."""
        if self._optimizer is not None:
            return None
        original = None if self._original is None else self._original()
        others = [x for x in loops_of(self.context) if x._optimizer is not None and x.form == self.form]
        return others[0] if len(others) == 1 and original not in others else original

    @property
    def form(self) -> tuple[Any, ...]:
        """What the models have in common of which one is a copy of the other."""
        return type(self.model), [(name, value.shape) for name, value in self.model.named_parameters()]

    @property
    def step(self) -> int:
        return self._steps if self.trained is None else self.trained.step

    def take_heads(self) -> None:
        """Let a running mean have the heads of the model that is trained, as they are now."""
        if self._is_a_mean:
            assert self.trained is not None
            self.attachment.head.take(self.trained.attachment.head.values())

    @property
    def _is_a_mean(self) -> bool:
        """Whether the weights have changed since they were copied or loaded, though no optimizer holds them."""
        return self.trained is not None and self._weights != _summed(self.model)

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
        self._steps += 1
        if self._just_resumed:
            self._just_resumed = False
            if self.attachment.head.modules and not self.attachment.head.loaded:
                self.context.say("this training was resumed without the heads of its checkpoint: they start anew.")

    def entry(self) -> dict[str, Any]:
        """What a checkpoint holds of the plugin."""
        if self._is_a_mean:  # hosts that train one save it in place of the model
            assert self.trained is not None
            return self.trained.entry()
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

    def loaded_whole(self) -> None:
        """The weights are those of a checkpoint, with its heads."""
        self._weights = _summed(self.model)

    def _resumed(self, *_: Any) -> None:
        self._host_resumed = True
        # accelerate loads an optimizer's own, empty state into it to move it to a device
        self._just_resumed = self._optimizer is not None and len(self._optimizer.state) > 0
        self._go_on()

    def _go_on(self) -> None:
        """Once the host has loaded its model and its optimizer, in whatever order."""
        if self._stored and self._host_resumed:
            self.attachment.head.restore_optimizer(self._stored.get("optimizer"))
            self._steps = int(self._stored.get("step", 0))
            self._stored, self._host_resumed = None, False


_LOOPS: weakref.WeakValueDictionary[str, PlainLoop] = weakref.WeakValueDictionary()


def loops_of(context: RunContext) -> list[PlainLoop]:
    """The loops of all models of a run, those of copies included, in the order in which they were made."""
    return [loop for loop in list(_LOOPS.values()) if loop.context is context]


def _of_a_copy(token: str, model: nn.Module, weights: list[float], heads: HeadValues) -> PlainLoop | None:
    """For a copy in this process, which is still being made; None for one that was pickled in another."""
    copied = _LOOPS.get(token)
    if copied is None:
        return None
    original = copied if copied._original is None else copied._original() or copied
    return PlainLoop(model, copied.context, (original, weights, heads))


def _summed(model: nn.Module) -> list[float]:
    """Tells whether weights have changed, in whatever way: writing into ``.data`` leaves no other trace.

    Waits for each device once, whatever the number of parameters.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for parameter in model.parameters():
        sums.setdefault(parameter.device, []).append(parameter.detach().sum(dtype=torch.float64))
    return [number for of_device in sums.values() for number in torch.stack(of_device).tolist()]


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


def _loaded_whole(model: nn.Module, incompatible: Any) -> None:
    """After ``load_state_dict()`` of a model."""
    loop = vars(model).get(ATTRIBUTE)
    if loop is not None:
        loop.loaded_whole()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
