"""The patches on a host's LightningModule class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diff3r_plugin.plugin import checkpoints
from diff3r_plugin.plugin.attachment import Attachment
from diff3r_plugin.plugin.patching import Patch, around

if TYPE_CHECKING:
    from diff3r_plugin.plugin.session import Session

STEPS = {"training_step": "train", "validation_step": "val", "test_step": "test"}

REASONS = {
    "__init__": "adds the uncertainty head and replaces encoder.forward on the instance",
    "training_step": "encoder calls inside are refined; logs diff3r/*",
    "validation_step": "encoder calls inside are refined; logs diff3r/val/*",
    "test_step": "encoder calls inside are refined; scores before and after are recorded",
    "on_test_end": "writes diff3r_scores.json and prints the table",
    "configure_optimizers": "hides the head from the host's optimizer and gives it its own",
    "on_save_checkpoint": "puts the head under the checkpoint's own key 'diff3r'",
    "on_load_checkpoint": "takes the head from the checkpoint's key 'diff3r', if it is there",
}


def wrapper_patches(session: Session, wrapper_class: type) -> list[Patch]:
    """Every change that is made to the class of a host's LightningModule."""
    actions: dict[str, Any] = {
        "__init__": _init(session),
        **{method: _step(stage) for method, stage in STEPS.items()},
        "on_test_end": _on_test_end,
        "configure_optimizers": _configure_optimizers,
        "on_save_checkpoint": _on_save_checkpoint,
        "on_load_checkpoint": _on_load_checkpoint,
    }
    return [Patch(wrapper_class, name, around(actions[name]), REASONS[name]) for name in actions]


def attachment_of(wrapper: Any) -> Attachment | None:
    """What the plugin attached to a model, or None."""
    return vars(wrapper).get("_diff3r")


def _init(session: Session):
    def action(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        if attachment_of(self) is None:
            vars(self)["_diff3r"] = Attachment(self, session)

    return action


def _step(stage: str):
    def action(original, self, batch, *args, **kwargs):
        attachment = attachment_of(self)
        if attachment is None:
            return original(self, batch, *args, **kwargs)
        with attachment.step(stage, batch):
            result = original(self, batch, *args, **kwargs)
            attachment.report()
            if stage == "train":
                result = attachment.with_unrefined_loss(result)
        return attachment.keep_head_in_graph(result) if stage == "train" else result

    return action


def _on_test_end(original, self, *args, **kwargs):
    result = original(self, *args, **kwargs)
    attachment = attachment_of(self)
    if attachment is not None:
        attachment.finish_test()
    return result


def _configure_optimizers(original, self, *args, **kwargs):
    attachment = attachment_of(self)
    if attachment is None:
        return original(self, *args, **kwargs)
    with attachment.head_hidden():
        result = original(self, *args, **kwargs)
    attachment.follow(result)
    return result


def _on_save_checkpoint(original, self, checkpoint, *args, **kwargs):
    result = original(self, checkpoint, *args, **kwargs)
    attachment = attachment_of(self)
    if attachment is not None:
        checkpoints.save(attachment, checkpoint)
    return result


def _on_load_checkpoint(original, self, checkpoint, *args, **kwargs):
    attachment = attachment_of(self)
    if attachment is not None:
        checkpoints.load(attachment, checkpoint)
    return original(self, checkpoint, *args, **kwargs)
