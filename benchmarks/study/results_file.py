"""Partial results of an experiment, kept as they come: what is there is not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diff3r_plugin.strict_json import write_json


class ResultsFile:
    """A JSON file of units of work by name.

    Args:
        path: The file.
        settings: What the units depend on; units made with other settings are dropped.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.units: dict[str, Any] = found.get("units", {}) if found.get("settings") == self.settings else {}

    def unit(self, name: str, make: Callable[[], Any]) -> Any:
        """The unit of that name; made and written where it is not there yet."""
        if name not in self.units:
            self.units[name] = make()
            write_json(self.path, {"settings": self.settings, "units": self.units})
            self.units[name] = json.loads(self.path.read_text(encoding="utf-8"))["units"][name]  # as it will be read
        return self.units[name]
