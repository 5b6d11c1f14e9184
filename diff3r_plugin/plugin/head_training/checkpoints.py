"""Checkpoints that a host with and without the plugin can read.

The host's part of a checkpoint is exactly what the host writes without the plugin: the head is no part of
``state_dict`` and no part of the optimizer's state. What the plugin needs lies under the top-level key ``diff3r``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_training.head_state import HeadState
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.strict_json import strict

KEY = "diff3r"

TITLES = {"head": "uncertainty head", "confidence": "confidence head"}
WITHOUT = {"head": "diff3r.head=fixed", "confidence": "diff3r.confidence=off"}
MISSING = {
    "head": "the checkpoint has no uncertainty head (trained without the plugin); "
    "the head keeps its initial weights. diff3r.head=fixed would use diff3r.weights.* as they are.",
    "confidence": "the checkpoint has no confidence head: all context pixels count alike until it is trained. "
    "diff3r.confidence=off says so outright.",
}


def save(context: RunContext, head: HeadState, checkpoint: dict[str, Any]) -> None:
    """Add the plugin's entry to a checkpoint that Lightning is about to write."""
    entry: dict[str, Any] = {
        "adapter": context.adapter.name,
        "version": context.settings.version,
        "groups": list(context.settings.tto.groups),
        "settings": strict(asdict(context.settings)),
        "head": {},  # there, if empty, whatever the settings: it says that the plugin wrote this
    }
    for name, module in head.modules.items():
        entry[name] = {key: value.detach().clone() for key, value in module.state_dict().items()}
    if head.optimizer is not None:
        entry["optimizer"] = head.optimizer.state_dict()
    checkpoint[KEY] = entry
    # Some hosts pass a checkpoint's state dict to load_state_dict themselves and never look at the rest. PyTorch keeps
    # versions of modules in this attribute and ignores what it does not know.
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    if metadata is not None:
        metadata[KEY] = {name: value for name, value in entry.items() if name != "optimizer"}


def load(context: RunContext, head: HeadState, checkpoint: dict[str, Any]) -> None:
    """Take the heads and the state of their optimizer from a checkpoint; what it does not hold stays as it is.

    Raises:
        PluginError: if a head of the checkpoint does not fit the present settings.
    """
    entry = checkpoint.get(KEY) or {}
    found = {name: module for name, module in head.modules.items() if entry.get(name)}
    for name in head.modules.keys() - found.keys():
        context.say(MISSING[name])
    if not found:
        return
    for name, module in found.items():
        try:
            module.load_state_dict(entry[name])
        except RuntimeError as error:
            raise PluginError(
                f"the checkpoint's {TITLES[name]} does not fit: {error}\nIt was trained with "
                f"groups {', '.join(entry.get('groups', []))} by version {entry.get('version') or 'unknown'}; use "
                "the same diff3r.groups, diff3r.head_width and diff3r.head_cross_view, or "
                f"{WITHOUT[name]} to do without it."
            ) from error
    head.loaded = frozenset(found)
    if len(found) == len(head.modules) and loop_of(head.wrapper).resuming:  # Adam's state is one list over all heads
        head.restore_optimizer(entry.get("optimizer"))


def load_from_metadata(context: RunContext, head: HeadState, state_dict: Any) -> None:
    """Take the head from a state dict alone, unless it came from the checkpoint's own entry already."""
    entry = (getattr(state_dict, "_metadata", None) or {}).get(KEY)
    if entry and not head.loaded:
        load(context, head, {KEY: entry})
