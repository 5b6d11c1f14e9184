"""Files of results as JSON that every reader takes: numbers that are not finite are null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diff3r_plugin.atomic import atomic_write


def strict(value: Any) -> Any:
    """The value as strict JSON has it: no NaN, no infinities; whatever JSON does not know, as text.

    Example:
        >>> from diff3r_plugin.strict_json import strict
        >>> strict({"psnr": (20.0, float("nan"))})
        {'psnr': [20.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def write_json(path: Path, value: Any) -> None:
    """Write :func:`strict` of a value; a file is replaced in one go, so that a reader never meets half of it."""
    with atomic_write(path) as file:
        file.write((json.dumps(strict(value), indent=1, allow_nan=False) + "\n").encode())
