"""Checkpoints that a host with and without the plugin can read.

The host's part of a checkpoint is exactly what the host writes without the plugin: the head is no part of
``state_dict`` and no part of the optimizer's state. What the plugin needs lies under the top-level key ``diff3r``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from diff3r_plugin.plugin.errors import PluginError

if TYPE_CHECKING:
    from diff3r_plugin.plugin.attachment import Attachment

KEY = "diff3r"


def keep_out_of_state_dict(wrapper: nn.Module, name: str) -> None:
    """Let a submodule appear neither in ``wrapper.state_dict()`` nor among the keys that loading asks for."""
    prefix = name + "."

    def remove(module: nn.Module, state: dict[str, Any], at: str, metadata: Any) -> None:
        for key in [key for key in state if key.startswith(at + prefix)]:
            del state[key]

    def forgive(module: nn.Module, incompatible: Any) -> None:
        missing = incompatible.missing_keys  # each with the path of the wrapper, if that is inside another module
        missing[:] = [key for key in missing if f".{prefix}" not in f".{key}"]

    wrapper._register_state_dict_hook(remove)
    wrapper.register_load_state_dict_post_hook(forgive)


def save(attachment: Attachment, checkpoint: dict[str, Any]) -> None:
    """Add the plugin's entry to a checkpoint that Lightning is about to write."""
    head = attachment.head
    entry: dict[str, Any] = {
        "adapter": attachment.adapter.name,
        "version": attachment.settings.version,
        "groups": list(attachment.settings.tto.groups),
        "head": {} if head is None else {key: value.detach().clone() for key, value in head.state_dict().items()},
    }
    if attachment.optimizer is not None:
        entry["optimizer"] = attachment.optimizer.state_dict()
    checkpoint[KEY] = entry
    # Some hosts pass a checkpoint's state dict to load_state_dict themselves and never look at the rest. PyTorch keeps
    # versions of modules in this attribute and ignores what it does not know.
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    if metadata is not None:
        metadata[KEY] = {name: value for name, value in entry.items() if name != "optimizer"}


def load(attachment: Attachment, checkpoint: dict[str, Any]) -> None:
    """Take the head and the state of its optimizer from a checkpoint; a plain host checkpoint leaves them as they are.

    Raises:
        PluginError: if the checkpoint's head does not fit the present settings.
    """
    entry = checkpoint.get(KEY)
    if attachment.head is None:
        return
    if not entry or not entry.get("head"):
        attachment.say(
            "the checkpoint has no uncertainty head (trained without the plugin); "
            "the head keeps its initial weights. diff3r.head=fixed would use diff3r.weights.* as they are."
        )
        return
    try:
        attachment.head.load_state_dict(entry["head"])
    except RuntimeError as error:
        raise PluginError(
            f"the checkpoint's uncertainty head does not fit: {error}\nIt was trained with "
            f"groups {', '.join(entry.get('groups', []))} by version {entry.get('version') or 'unknown'}; use the "
            "same diff3r.groups and diff3r.head_width, or diff3r.head=fixed to do without the head."
        ) from error
    attachment.head_loaded = True
    if attachment.wrapper._trainer is not None:  # else only weights are wanted: fine-tuning starts its optimizer anew
        attachment.restore_optimizer(entry.get("optimizer"))


def load_from_metadata(attachment: Attachment, state_dict: Any) -> None:
    """Take the head from a state dict alone, unless it came from the checkpoint's own entry already."""
    entry = (getattr(state_dict, "_metadata", None) or {}).get(KEY)
    if entry and not attachment.head_loaded:
        load(attachment, {KEY: entry})
