"""Checkpoints and data that are missing, truncated or damaged, said in one line instead of a host's long traceback."""

from __future__ import annotations

import difflib
import os
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_CHUNKS = 5000
"""Chunks whose ends are looked at once one of them could not be read."""

READERS = ("torch/serialization.py",)


def explained(error: BaseException, config: Mapping[str, Any]) -> str | None:
    """Which file an error of a host is about, what is wrong with it, and what to do; None where it is about none.

    Args:
        error: What the host raised.
        config: The host's configuration as plain mappings, lists and values: the paths it was given.
    """
    for path in _read_by_torch(error):
        trouble = trouble_with(path)
        if trouble is not None:
            return f"{path} {trouble}{_named_by(path, config)}"
    if _in_a_worker(error):
        bad = [(path, trouble) for path in _chunks(config) if (trouble := trouble_with(path)) is not None]
        if bad:
            path, trouble = bad[0]
            more = f" {len(bad)} chunks of this data are like that." if len(bad) > 1 else ""
            return f"{path} {trouble}{_named_by(path, config)}{more}"
    if isinstance(error, FileNotFoundError):
        return _missing(error, config)
    return None


def trouble_with(path: Path) -> str | None:
    """What is wrong with a file that ``torch.save`` should have written, and the cure; None where it is whole."""
    again = "Copy or download it again"
    if not path.exists():
        near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
        return f"does not exist.{f' Did you mean {path.with_name(near[0])}?' if near else ''}"
    if path.is_dir():
        return "is a folder, where a file was expected."
    size = path.stat().st_size
    if size == 0:
        return f"is empty (0 bytes). {again}, or take an earlier one."
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself. Fetch it with git lfs pull."
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the file itself: the download was refused. Get it with a browser that is logged in."
    if not start.startswith(b"PK"):
        return f"is no file that torch.save wrote ({size} bytes, starts with {start[:8]!r}). {again}."
    if not zipfile.is_zipfile(path):
        return f"is truncated (its end is missing after {size} bytes). {again}, or take an earlier one."
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        damaged = "its directory"
    return None if damaged is None else f"is damaged (in {damaged}). {again}, or take an earlier one."


def _read_by_torch(error: BaseException) -> Iterator[Path]:
    """Files that ``torch.load`` was reading, from the frames of the error and of those it came from."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            code = frame.f_code
            if code.co_name == "load" and code.co_filename.replace(os.sep, "/").endswith(READERS):
                given = frame.f_locals.get("f")
                if not isinstance(given, (str, os.PathLike)):  # an open file
                    given = getattr(given, "path", getattr(given, "name", None))
                if isinstance(given, (str, os.PathLike)):
                    yield Path(given)
        seen = seen.__cause__ or seen.__context__


def _in_a_worker(error: BaseException) -> bool:
    """Whether a process that loads data failed in reading: of that only the text arrives here."""
    text = str(error)
    return "in DataLoader worker process" in text and any(reader in text for reader in READERS)


def _chunks(config: Mapping[str, Any]) -> Iterator[Path]:
    """Files of the data that the configuration names."""
    for _, value in _paths(config):
        if os.path.isdir(value):
            for index, path in enumerate(sorted(Path(value).rglob("*.torch"))):
                if index == MOST_CHUNKS:
                    break
                yield path


def _missing(error: FileNotFoundError, config: Mapping[str, Any]) -> str | None:
    """A path of the configuration, or below one, that is not there."""
    text = os.fspath(error.filename) if isinstance(error.filename, (str, os.PathLike)) else str(error)
    for key, value in _paths(config):
        if value in text and not os.path.exists(value):
            near = difflib.get_close_matches(os.path.basename(value), _names(Path(value).parent), n=1)
            hint = f" Did you mean {Path(value).with_name(near[0])}?" if near else ""
            return f"{value} does not exist; {key} names it.{hint}"
    for key, value in _paths(config):
        if error.filename and text.startswith(os.path.join(value, "")):
            return f"{text} does not exist; it was expected in {value}, which {key} names."
    return None


def _named_by(path: Path, config: Mapping[str, Any]) -> str:
    text = os.path.abspath(path)
    for key, value in _paths(config):
        if text == os.path.abspath(value) or text.startswith(os.path.join(os.path.abspath(value), "")):
            return f" ({key})"
    return ""


def _paths(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration with a separator or an ending in it, by its dotted key."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _paths(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _paths(value, key)
    elif isinstance(config, (str, os.PathLike)):
        text = os.fspath(config)
        if len(text) > 1 and (os.sep in text or "." in text):
            yield key, text


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
