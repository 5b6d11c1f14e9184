"""Scores of a test as lines of JSON, each on the disk before the next scene begins: what an interrupted test leaves."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.strict_json import strict

PROBE = 2**20
"""Bytes that must fit into a folder before a test begins: about what thousand scenes leave there."""


class ScoreLines:
    """A file of lines: a header, one object for each scene, and ``{"finished": true}``.

    A line counts once its line break is there, so that what a crash leaves behind is read as far as it is whole.

    Args:
        path: The file; its folder is made.

    Attributes:
        header: Of the test that is recorded; None before :meth:`start` where there is no file.
        entries: The scenes so far, in the order in which they were scored; one that was scored again counts once.
        finished: Whether the test went to its end.

    Raises:
        PluginError: if nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] | None = None
        self.entries: list[dict[str, Any]] = []
        self.finished = False
        self._file: BinaryIO | None = None
        self._whole = 0
        self._require_room()
        self._read()

    def recorded(self) -> Counter[str]:
        """How often each scene has been scored."""
        return Counter(str(entry["scene"]) for entry in self.entries)

    def start(self, header: dict[str, Any]) -> None:
        """Begin anew; what another test left unfinished is kept beside, as ``*.previous.jsonl``."""
        self.close()
        if self.entries and not self.finished:
            os.replace(self.path, self.path.with_suffix(".previous.jsonl"))
        self.entries, self.finished, self._whole = [], False, 0
        self._open()
        self.header = header
        self._append(header)

    def go_on(self) -> None:
        """Append to what is there; half a line at its end goes."""
        self.close()
        self._open()

    def add(self, entry: dict[str, Any]) -> None:
        """Append the scores of a scene; they are on the disk when this returns.

        Raises:
            PluginError: if the disk takes no more.
        """
        self._append(entry)
        self._take(_restored(json.loads(_line(entry))))

    def merge(self, others: Iterable[Path]) -> None:
        """Merge the lines of other processes and remove their files; a scene that several scored counts once."""
        for path in others:
            if not path.is_file():
                continue
            other = ScoreLines(path)
            if strict(other.header) != strict(self.header):
                continue  # of another test
            known = {entry["scene"] for entry in self.entries}
            for entry in other.entries:
                if entry["scene"] not in known:
                    self.add(entry)
            other.remove()

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Say that nothing is missing."""
        self._append({"finished": True})
        self.finished = True
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take(self, entry: dict[str, Any]) -> None:
        key = (entry.get("scene"), entry.get("occurrence", 0))
        same = [i for i, known in enumerate(self.entries) if (known.get("scene"), known.get("occurrence", 0)) == key]
        if same:
            self.entries[same[0]] = entry
        else:
            self.entries.append(entry)

    def _read(self) -> None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        for line in content.splitlines(keepends=True):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not line.endswith(b"\n") or not isinstance(value, dict):
                break
            self._whole += len(line)
            if "scene" in value:
                self._take(_restored(value))
            elif value.get("finished"):
                self.finished = True
            else:
                self.header = value

    def _open(self) -> None:
        try:
            self._file = open(self.path, "ab")
            self._file.truncate(self._whole)
        except OSError as error:
            raise self._unwritable(error) from error

    def _append(self, value: dict[str, Any]) -> None:
        assert self._file is not None, "start() or go_on() comes first"
        try:
            self._file.write(_line(value))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise PluginError(
                f"the scores could not be written to {self.path} ({error.strerror or error}). Those of "
                f"{len(self.entries)} scenes are there; free some space and run the same command again: it resumes "
                "from them."
            ) from error

    def _require_room(self) -> None:
        probe = self.path.with_name(f".{self.path.name}.{os.getpid()}.probe")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(probe, "wb") as file:
                    file.write(bytes(PROBE))
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> PluginError:
        return PluginError(
            f"the scores of this test cannot be written to {self.path.parent} ({error.strerror or error}); nothing was "
            f"tested. Make it writable with {PROBE // 2**20} MiB to spare, or choose another folder with "
            "diff3r.output=FOLDER."
        )


def _restored(value: Any) -> Any:
    """Numbers that are not finite, which JSON has no word for, as NaN again."""
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return math.nan if value is None else value


def _line(value: dict[str, Any]) -> bytes:
    return (json.dumps(strict(value), allow_nan=False) + "\n").encode()
