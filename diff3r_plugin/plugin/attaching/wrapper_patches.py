"""The changes of a host's LightningModule class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from diff3r_plugin.plugin.attaching.attachment import Attachment, attachment_of
from diff3r_plugin.plugin.attaching.patching import Patch, around
from diff3r_plugin.plugin.errors import announced
from diff3r_plugin.plugin.head_training import checkpoints
from diff3r_plugin.plugin.head_training.training_loss import with_confidence_loss, with_parameters, with_unrefined_loss
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.step import Step

Original = Callable[..., Any]


def wrapper_patches(context: RunContext, wrapper_class: type) -> list[Patch]:
    """Every change that is made to the class of a host's LightningModule."""
    return [
        Patch(wrapper_class, name, around(announced(partial(change.action, context), context.report_error)), change.why)
        for name, change in CHANGES.items()
    ]


def _init(context: RunContext, original: Original, self: Any, *args: Any, **kwargs: Any) -> Any:
    original(self, *args, **kwargs)
    if attachment_of(self) is None:
        vars(self)["_diff3r"] = Attachment(self, context)


def _step(stage: str, context: RunContext, original: Original, self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    attachment = attachment_of(self)
    if attachment is None:
        return original(self, batch, *args, **kwargs)
    if stage == "test" and attachment.reporter.leaves_out(batch):
        return None
    step, warming_up = Step(stage, batch), attachment.calls.warming_up(stage)
    if stage != "train":
        attachment.take_in_copies()
    with attachment.calls.within(step):
        result = original(self, batch, *args, **kwargs)
        attachment.stages.add(step, warming_up)
        with attachment.calls.left_alone():
            attachment.reporter.report(step)
            if stage == "train":
                settings = context.settings
                if attachment.base_search is not None:
                    attachment.base_search.observe(step)
                result = with_unrefined_loss(result, settings.unrefined_loss, context.adapter, self, step)
                result = with_confidence_loss(result, settings.confidence_supervision, context.adapter, step)
    return with_parameters(result, attachment.head.trained_parameters) if stage == "train" else result


def _on_stage_end(stage: str, context: RunContext, original: Original, self: Any, *args: Any, **kwargs: Any) -> Any:
    attachment = attachment_of(self)
    if attachment is not None:
        attachment.stages.end(stage)
    return original(self, *args, **kwargs)


def _on_test_end(context: RunContext, original: Original, self: Any, *args: Any, **kwargs: Any) -> Any:
    attachment = attachment_of(self)
    if attachment is not None:  # first: nothing is lost when the host's own end of the test fails
        attachment.stages.end("test")
        attachment.reporter.finish_test()
    return original(self, *args, **kwargs)


def _configure_optimizers(context: RunContext, original: Original, self: Any, *args: Any, **kwargs: Any) -> Any:
    result = original(self, *args, **kwargs)
    attachment = attachment_of(self)
    if attachment is not None:
        attachment.head.follow(result)
    return result


def _on_save_checkpoint(
    context: RunContext, original: Original, self: Any, checkpoint: Any, *args: Any, **kwargs: Any
) -> Any:
    result = original(self, checkpoint, *args, **kwargs)
    attachment = attachment_of(self)
    if attachment is not None:
        checkpoints.save(context, attachment.head, checkpoint)
    return result


def _on_load_checkpoint(
    context: RunContext, original: Original, self: Any, checkpoint: Any, *args: Any, **kwargs: Any
) -> Any:
    attachment = attachment_of(self)
    if attachment is not None:
        checkpoints.load(context, attachment.head, checkpoint)
    return original(self, checkpoint, *args, **kwargs)


class Change(NamedTuple):
    """What happens around a method of the host (``action(context, original, self, ...)``), and why."""

    action: Callable[..., Any]
    why: str


CHANGES = {
    "__init__": Change(_init, "adds the uncertainty head and replaces the encoder's refined method on the instance"),
    "training_step": Change(partial(_step, "train"), "encoder calls inside are refined; logs diff3r/*"),
    "validation_step": Change(partial(_step, "val"), "encoder calls inside are refined; logs diff3r/val/*"),
    "test_step": Change(
        partial(_step, "test"),
        "encoder calls inside are refined; scores before and after are recorded; an interrupted test is resumed",
    ),
    "on_train_end": Change(partial(_on_stage_end, "train"), "says if no step was refined"),
    "on_validation_end": Change(partial(_on_stage_end, "val"), "says if no step was refined"),
    "on_test_end": Change(_on_test_end, "writes diff3r_scores.json and .csv and prints the table"),
    "configure_optimizers": Change(_configure_optimizers, "gives the head an optimizer that follows the host's"),
    "on_save_checkpoint": Change(_on_save_checkpoint, "puts the head under the checkpoint's own key 'diff3r'"),
    "on_load_checkpoint": Change(
        _on_load_checkpoint, "takes the head from the checkpoint's key 'diff3r', if it is there"
    ),
}
"""Method of the LightningModule -> its change."""
