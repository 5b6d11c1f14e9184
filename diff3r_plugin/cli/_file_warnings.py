"""What readers warn of, as lines of the command that reads."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def said_as(command: str) -> Iterator[list[str]]:
    """Within, each thing that a file is warned of is one line, said once; yields those lines without the command.

    Other warnings go where they would.
    """
    from diff3r_plugin.io import FileWarning

    said: list[str] = []
    usual = warnings.showwarning

    def show(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if not issubclass(category, FileWarning):
            usual(message, category, *place, **more)
        elif str(message) not in said:
            said.append(str(message))
            print(f"{command}: note: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FileWarning)
        warnings.showwarning = show
        yield said
