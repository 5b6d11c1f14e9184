"""What a test is a test of: enough to tell whether an interrupted one may be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.settings.host_config import plain
from diff3r_plugin.strict_json import strict

WHERE_ONLY = ("output",)
"""Settings that say where things are written, not what is tested."""


def identity_of_test(context: RunContext, checkpoint: str | None, ranks: int) -> dict[str, Any]:
    """By name: the settings, the checkpoint, the host's configuration, the version and the number of processes."""
    settings = strict(asdict(context.settings))
    return {
        "adapter": context.adapter.name,
        "version": context.settings.version,
        "settings": {name: value for name, value in settings.items() if name not in WHERE_ONLY},
        "checkpoint": described_checkpoint(checkpoint),
        # interpolations (the time of day among them) as they stand
        "configuration": _digest({k: v for k, v in plain(context.host_config, False).items() if k != "diff3r"}),
        "ranks": ranks,
    }


def described_checkpoint(path: str | None) -> dict[str, Any] | None:
    """The path of a checkpoint; with size and time of its last change where it is a file."""
    if not path:
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return {"path": str(path)}
    return {"path": os.path.abspath(path), "bytes": found.st_size, "modified": found.st_mtime_ns}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What two tests differ in; settings by their keys."""
    found = [name for name in second if name != "settings" and strict(first.get(name)) != strict(second[name])]
    one, other = (_flat(identity.get("settings") or {}) for identity in (first, second))
    return found + [f"diff3r.{key}" for key in other if one.get(key) != other[key]]


def command_line() -> str:
    """The command that started this process, as one types it."""
    return shlex.join(sys.orig_argv)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in settings.items() if k != "tto"}, **(settings.get("tto") or {})}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(strict(value), sort_keys=True).encode()).hexdigest()[:16]
