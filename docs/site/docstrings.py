"""Griffe extension: reads docstrings as this project writes them."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|mod):`~?(?:[\w.]+\.)?(\w+)`")


class ProjectDocstrings(griffe.Extension):
    """``Example:`` is a section of code, as ``Examples:`` is, and a role (``:class:`X```) is shown as its name."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each object of the package, before docstrings are parsed."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(r"`\1`", text)
