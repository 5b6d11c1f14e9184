"""From the options of a command to the fields of settings that they name; all others keep the class's default."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any


def named_fields(args: argparse.Namespace, settings: type) -> dict[str, Any]:
    """The arguments that are fields of a settings class, by name; lists (of options of several words) as tuples.

    An option of a field has ``argparse.SUPPRESS`` as its default: so the class alone says what the default is, and a
    command need not import it, and PyTorch with it, before it runs.

    Args:
        args: Parsed; an option's destination is the field's name.
        settings: A dataclass.

    Example:
        >>> from argparse import Namespace
        >>> from diff3r_plugin.cli._settings_options import named_fields
        >>> from diff3r_plugin.data import DataOptions
        >>> named_fields(Namespace(frames=5, outlier_kinds=["blur"], other=1), DataOptions)
        {'frames': 5, 'outlier_kinds': ('blur',)}
    """
    found = {field.name: getattr(args, field.name) for field in fields(settings) if hasattr(args, field.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
