"""What a part of the GPU check writes while it runs, and how much time it has left."""

from __future__ import annotations

import argparse
import contextlib
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diff3r_plugin.strict_json import write_json

RUNNING, DONE, SKIPPED, FAILED, TRUNCATED = "running", "done", "skipped", "failed", "truncated"
"""States of a part. ``running`` in a file means that its process ended without saying how."""


class Budget:
    """Time that a part may still spend.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, negative when overdrawn."""
        return self._end - time.monotonic()


class Record:
    """A part's results: lists of entries by section, written to disk with every addition.

    Args:
        path: The file.
        part: Name of the part.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path = path
        self.content: dict[str, Any] = {"part": part, "state": RUNNING, "reason": None}
        self._write()

    def add(self, section: str, entry: Mapping[str, Any]) -> None:
        """Append one entry to a section."""
        self.content.setdefault(section, []).append(dict(entry))
        self._write()

    def put(self, name: str, value: Any) -> None:
        """Set one value."""
        self.content[name] = value
        self._write()

    def end(self, state: str, reason: str | None = None) -> None:
        """Say how the part ended."""
        self.content.update(state=state, reason=reason)
        self._write()

    @property
    def ended(self) -> bool:
        return self.content["state"] != RUNNING

    def _write(self) -> None:
        write_json(self.path, self.content)


@contextlib.contextmanager
def recorded(part: str, description: str | None) -> Iterator[tuple[Record, Budget, argparse.Namespace]]:
    """The command line of a part: its record, its time and its options; any exception ends the record as failed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seconds", type=float, required=True, help="time for this part")
    parser.add_argument("--cpu", action="store_true", help="dry run: tiny sizes on the CPU")
    options = parser.parse_args()
    record = Record(options.out, part)
    try:
        yield record, Budget(options.seconds), options
    except BaseException as error:
        record.put("traceback", traceback.format_exc().splitlines()[-30:])
        record.end(FAILED, f"{type(error).__name__}: {error}")
        raise
    if not record.ended:
        record.end(DONE)
