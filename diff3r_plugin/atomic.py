"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file to write to, which gets its name only once it is whole and on the disk.

    It is written beside its place, synchronized, and moved there in one go: a reader meets the old file or the new one,
    and so does whoever comes after a crash. Where the block fails, what it wrote is removed. Folders are made.

    Example:
        >>> import tempfile
        >>> from diff3r_plugin.atomic import atomic_write
        >>> place = Path(tempfile.mkdtemp()) / "made" / "numbers.txt"
        >>> with atomic_write(place) as file:
        ...     written = file.write(b"1 2 3")
        ...     before = place.exists()
        >>> before, place.read_bytes(), len(list(place.parent.iterdir()))
        (False, b'1 2 3', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _synchronize(path.parent)


def _synchronize(folder: Path) -> None:
    """The folder's list of names, which holds the move; where the system has no such thing, nothing."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
