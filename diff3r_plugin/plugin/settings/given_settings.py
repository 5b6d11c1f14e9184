"""Settings from outside of a host's configuration: ``DIFF3R_...`` in the environment, words on a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableSequence
from dataclasses import fields
from typing import Any

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.plugin.errors import PluginError, unknown_name
from diff3r_plugin.plugin.settings.settings import PluginSettings

PREFIX = "DIFF3R_"
OTHERS = ("PLUGIN", "LOAD_PLUGINS", "CACHE_DIR", "CXX", "CXXFLAGS", "NVCC", "NVCCFLAGS", "CUDA_ON_HOST")
"""Of the same prefix, but no settings."""

KEYS = (
    *(f.name for f in fields(PluginSettings) if f.name not in ("tto", "weights")),
    *(f"weights.{group}" for group in GROUPS),
    *(f.name for f in fields(TTOConfig) if f.init and f.name != "learning_rates"),
    *(f"learning_rates.{group}" for group in GROUPS),
)
"""Every setting, dotted where it is one of a mapping."""


def variable(key: str) -> str:
    """The environment variable of a setting.

    >>> from diff3r_plugin.plugin.settings.given_settings import variable
    >>> variable("inner_steps"), variable("diff3r.weights.sh_dc")
    ('DIFF3R_INNER_STEPS', 'DIFF3R_WEIGHTS_SH_DC')

    Raises:
        PluginError: for a key that does not exist.
    """
    key = key.removeprefix("diff3r.")
    if key not in KEYS:
        raise unknown_name("setting", key, KEYS)
    return PREFIX + key.upper().replace(".", "_")


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that an environment holds, as `PluginSettings.parse` takes them.

    >>> from diff3r_plugin.plugin.settings.given_settings import from_environment
    >>> from_environment({"DIFF3R_REFINE": "[val,test]", "DIFF3R_WEIGHTS_MEANS": "0.5", "DIFF3R_PLUGIN": "diff3r"})
    {'refine': ['val', 'test'], 'weights': {'means': 0.5}}

    Raises:
        PluginError: for a variable of the prefix that is no setting.
    """
    known = {variable(key): key for key in KEYS}
    found: dict[str, Any] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in OTHERS:
            continue
        if name not in known:
            raise unknown_name("environment variable", name, known)
        _put(found, known[name], environment[name])
    return found


def words_of(arguments: MutableSequence[str]) -> dict[str, Any]:
    """Take the words ``diff3r.KEY=VALUE`` out of a command line that something other than Hydra will read, in place.

    >>> from diff3r_plugin.plugin.settings.given_settings import words_of
    >>> line = ["main.py", "diff3r.inner_steps=3", "lr=1"]
    >>> words_of(line), line
    ({'inner_steps': 3}, ['main.py', 'lr=1'])
    """
    found: dict[str, Any] = {}
    kept = []
    for argument in arguments:
        name, equals, text = argument.lstrip("+").partition("=")
        if equals and name.startswith("diff3r."):
            _put(found, name.removeprefix("diff3r."), text)
        else:
            kept.append(argument)
    arguments[:] = kept
    return found


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several sources; later ones win, also within mappings.

    >>> from diff3r_plugin.plugin.settings.given_settings import merged
    >>> merged({"weights": {"means": 1, "opacity": 1}, "head": "fixed"}, {"weights": {"means": 2}})
    {'weights': {'means': 2, 'opacity': 1}, 'head': 'fixed'}
    """
    joined: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
            joined[key] = {**joined[key], **value} if both else value
    return joined


def _put(settings: dict[str, Any], key: str, text: str) -> None:
    name, dot, part = key.partition(".")
    if dot:
        settings.setdefault(name, {})[part] = _value(text)
    else:
        settings[name] = _value(text)


def _value(text: str) -> Any:
    """A number, true, false, null or a list where the text is one; else the text.

    Raises:
        PluginError: for a list that does not end.
    """
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]"):
            raise PluginError(f"{text!r} begins a list that does not end; write [train,test].")
        return [_value(part) for part in text[1:-1].split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")
