"""Attaches the plugin to one model of a host: the head among its modules, the changes of its instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diff3r_plugin.plugin.attaching.patching import Patch, Patches
from diff3r_plugin.plugin.errors import PluginError, announced
from diff3r_plugin.plugin.head_training import checkpoints
from diff3r_plugin.plugin.head_training.base_search import BaseSearch
from diff3r_plugin.plugin.head_training.head_state import HeadState
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.encoder_calls import EncoderCalls
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.refining.stage_counts import StageCounts
from diff3r_plugin.plugin.scoring.reporting import Reporter


class Attachment:
    """The plugin's part of one host model.

    Args:
        wrapper: The host's LightningModule, just constructed.
        context: Settings, adapter and host configuration of this run.

    Raises:
        PluginError: if the model is not what the adapter expects.
    """

    def __init__(self, wrapper: Any, context: RunContext) -> None:
        self.wrapper, self.context = wrapper, context
        context.adapter.attached(wrapper)
        self.refiner = Refiner(wrapper, context)
        heads = {"head": self.refiner.weights.head, "confidence": self.refiner.confidence.head}
        self.head = HeadState(heads, wrapper, context.settings.head_lr_multiplier)
        self.base_search: BaseSearch | None = None
        if context.settings.base_search_every:
            self.base_search = BaseSearch(wrapper, context, self.refiner.weights.head)
        self.calls = EncoderCalls(wrapper, context, self.refiner)
        self.stages = StageCounts(context, self.calls.method.name)
        self.reporter = Reporter(wrapper, context, self.head, self.refiner)
        self.patches = Patches()
        for patch in self._instance_patches():
            self.patches.apply(patch)
        context.call_hook("diff3r_configure", wrapper=wrapper)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a copy of the model is the host's own, until its loop attaches the plugin to it

    def _instance_patches(self) -> list[Patch]:
        calls, adapter = self.calls, self.context.adapter
        encoder, refined = adapter.encoder(self.wrapper), calls.method
        if not callable(getattr(encoder, refined.name, None)):
            raise PluginError(
                f"the encoder {type(encoder).__name__} has no method {refined.name!r}, which adapter "
                f"{adapter.name!r} says is the one that is refined."
            )
        patches = [
            Patch(encoder, refined.name, calls.refining, f"refines the {refined.side} of the encoder"),
            Patch(self.wrapper, "load_state_dict", self._loading, "takes the head from a bare state dict, too"),
        ]
        if not self.head.carried:  # a copy has this change from its model
            leaves_out = "leaves the head to its own optimizer"
            patches.append(Patch(self.wrapper, "named_parameters", self.head.left_out, leaves_out, on_copies=True))
        if callable(getattr(self.wrapper, "data_shim", None)):
            patches.append(
                Patch(self.wrapper, "data_shim", calls.noting_the_batch, "notes the batch the host works with")
            )
        owner, method = _owner(self.wrapper, adapter.draws)
        if adapter.draws and callable(getattr(owner, method, None)):
            patches.append(Patch(owner, method, calls.noting_images, "notes what the host's test renders"))
        for path in () if self.context.settings.refine_extra else adapter.unrefined:
            owner, method = _owner(self.wrapper, path)
            if callable(getattr(owner, method, None)):  # hosts build some of these only on request
                patches.append(Patch(owner, method, calls.leaving_alone, "encoder calls inside are left alone"))
        return patches

    def take_in_copies(self) -> None:
        """Before an evaluation: refine what copies of the encoder predict, too; each is changed once."""
        adapter = self.context.adapter
        for encoder in adapter.encoder_copies(self.wrapper):
            if not any(patch.owner is encoder for patch in self.patches):
                method = self.calls.method
                why = f"refines the {method.side} of a copy of the encoder, in validation and test"
                self.patches.apply(Patch(encoder, method.name, self.calls.refining_a_copy(encoder), why))

    def _loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state_dict(state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            result = original(state_dict, *args, **kwargs)
            checkpoints.load_from_metadata(self.context, self.head, state_dict)
            return result

        return announced(load_state_dict, self.context.report_error)


def attachment_of(wrapper: Any) -> Attachment | None:
    """What the plugin attached to a model, or None."""
    return vars(wrapper).get("_diff3r")


def _owner(wrapper: Any, path: str) -> tuple[Any, str]:
    """The object and the method's name that a dotted path below the LightningModule means."""
    *parts, method = path.split(".")
    owner = wrapper
    for part in parts:
        owner = getattr(owner, part, None)
    return owner, method
