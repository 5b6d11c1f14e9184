"""Checkpoints that a host with and without the plugin can read.

The host's part of a checkpoint is exactly what the host writes without the plugin: the head is no part of
``state_dict`` and no part of the optimizer's state. What the plugin needs lies under the top-level key ``diff3r``.
"""

from __future__ import annotations

from typing import Any

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_state import HeadState
from diff3r_plugin.plugin.run_context import RunContext

KEY = "diff3r"


def save(context: RunContext, head: HeadState, checkpoint: dict[str, Any]) -> None:
    """Add the plugin's entry to a checkpoint that Lightning is about to write."""
    weights = {} if head.module is None else head.module.state_dict()
    entry: dict[str, Any] = {
        "adapter": context.adapter.name,
        "version": context.settings.version,
        "groups": list(context.settings.tto.groups),
        "head": {key: value.detach().clone() for key, value in weights.items()},
    }
    if head.optimizer is not None:
        entry["optimizer"] = head.optimizer.state_dict()
    checkpoint[KEY] = entry
    # Some hosts pass a checkpoint's state dict to load_state_dict themselves and never look at the rest. PyTorch keeps
    # versions of modules in this attribute and ignores what it does not know.
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    if metadata is not None:
        metadata[KEY] = {name: value for name, value in entry.items() if name != "optimizer"}


def load(context: RunContext, head: HeadState, checkpoint: dict[str, Any]) -> None:
    """Take the head and the state of its optimizer from a checkpoint; a plain host checkpoint leaves them as they are.

    Raises:
        PluginError: if the checkpoint's head does not fit the present settings.
    """
    entry = checkpoint.get(KEY)
    if head.module is None:
        return
    if not entry or not entry.get("head"):
        context.say(
            "the checkpoint has no uncertainty head (trained without the plugin); "
            "the head keeps its initial weights. diff3r.head=fixed would use diff3r.weights.* as they are."
        )
        return
    try:
        head.module.load_state_dict(entry["head"])
    except RuntimeError as error:
        raise PluginError(
            f"the checkpoint's uncertainty head does not fit: {error}\nIt was trained with "
            f"groups {', '.join(entry.get('groups', []))} by version {entry.get('version') or 'unknown'}; use the "
            "same diff3r.groups and diff3r.head_width, or diff3r.head=fixed to do without the head."
        ) from error
    head.loaded = True
    if head.wrapper._trainer is not None:  # else only weights are wanted: fine-tuning starts its optimizer anew
        head.restore_optimizer(entry.get("optimizer"))


def load_from_metadata(context: RunContext, head: HeadState, state_dict: Any) -> None:
    """Take the head from a state dict alone, unless it came from the checkpoint's own entry already."""
    entry = (getattr(state_dict, "_metadata", None) or {}).get(KEY)
    if entry and not head.loaded:
        load(context, head, {KEY: entry})
