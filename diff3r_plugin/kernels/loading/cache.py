"""Compiled libraries in the user's cache directory: made once, by one process, never half, and nobody else's.

Loading a library runs it. A directory or file counts only if it belongs to this user (or to root) and nobody else can
write to it, and if the library's digest is the one that was written down when it was made: a disk that was full for
a moment otherwise leaves a file that ends every later process with a bus error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process that is compiling the same library before compiling it once more."""

BUILDING = "building-"
"""Prefix of the folders in which compilers work."""

STALE_AFTER = 3600.0
"""Seconds after which such a folder is one that a killed process left behind."""

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class BuildError(RuntimeError):
    """Kernels cannot be compiled here; the message says why and what to do."""


def provide(name: str, make: Callable[[Path], None]) -> Path:
    """The library of this name, made first if no cache directory has a sound one.

    Several processes may call this at the same time: one makes the library, the others wait for it.

    Args:
        name: File name; it should carry a hash of everything the library depends on.
        make: Writes the library to the path it is given, by an atomic rename.

    Raises:
        BuildError: if there is no directory that can be written to and trusted, or from ``make``.
    """
    refused = []
    for directory in directories():
        objection = _objection_to_directory(directory)
        if objection is None and is_sound(directory / name):
            return directory / name
        objection = objection or _objection_to_writing(directory)
        if objection is not None:
            refused.append(f"{directory}: {objection}")
            continue
        _clear_stale(directory)
        with _locked(directory / f"{name}.lock"):
            if not is_sound(directory / name):
                _make(directory / name, make)
        return directory / name
    raise BuildError(
        "no directory for compiled kernels: set $DIFF3R_CACHE_DIR to one that you own and nobody else can write to.\n"
        + "\n".join(refused)
    )


def find(pattern: str) -> Path | None:
    """A sound library whose name matches, in the first directory that has one."""
    return next(find_all(pattern), None)


def find_all(pattern: str) -> Iterator[Path]:
    """Every sound library whose name matches."""
    for directory in directories():
        if _objection_to_directory(directory) is None:
            yield from (path for path in sorted(directory.glob(pattern)) if is_sound(path))


def directories() -> Iterator[Path]:
    """Where libraries may lie, the preferred place first."""
    chosen = os.environ.get("DIFF3R_CACHE_DIR")
    if chosen:
        yield Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        with contextlib.suppress(RuntimeError):  # no home directory
            yield (Path(base) if base else Path.home() / ".cache") / "diff3r-plugin"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"diff3r-plugin-{user}"


def is_sound(library: Path) -> bool:
    """Whether a library exists, is nobody else's, and is the one that was made."""
    try:
        if _objection_to_owner(library.lstat()) is not None:
            return False
        return _digest_path(library).read_text().strip() == _digest(library)
    except (OSError, UnicodeDecodeError):
        return False


def _make(target: Path, make: Callable[[Path], None]) -> None:
    _digest_path(target).unlink(missing_ok=True)
    make(target)
    target.chmod(0o755)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=BUILDING, delete=False) as file:
        file.write(_digest(target))
    os.replace(file.name, _digest_path(target))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_path(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _objection_to_directory(directory: Path) -> str | None:
    """Why nothing may be loaded from there; None also where it does not exist yet."""
    try:
        # A link in the shared temporary directory may be anybody's; one that the user chose is the user's own.
        shared = directory.parent == Path(tempfile.gettempdir())
        return _objection_to_owner(directory.lstat() if shared else directory.stat())
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)


def _objection_to_owner(status: os.stat_result) -> str | None:
    if not hasattr(os, "getuid"):
        return None
    if status.st_uid not in (os.getuid(), 0):
        return f"belongs to another user ({status.st_uid})"
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return f"others can write to it (mode {stat.S_IMODE(status.st_mode):o}); chmod go-w would help"
    return None


def _objection_to_writing(directory: Path) -> str | None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return _objection_to_directory(directory)  # it may have appeared just now
    except OSError as error:
        return f"cannot be written to ({error.strerror or error})"


def _clear_stale(directory: Path) -> None:
    """Remove what compilers that were killed have left behind."""
    with contextlib.suppress(OSError):
        for path in directory.glob(f"{BUILDING}*"):
            if time.time() - path.lstat().st_mtime > STALE_AFTER:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_one(name: str, timeout: float = 1800.0) -> Iterator[None]:
    """Only one process of this user at a time; without a directory to lock in, all of them.

    Args:
        name: What they exclude each other from.
        timeout: Seconds after which a process proceeds without it.
    """
    for directory in directories():
        if _objection_to_directory(directory) is None and _objection_to_writing(directory) is None:
            with _locked(directory / f"{name}.lock", timeout):
                yield
            return
    yield


@contextlib.contextmanager
def _locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold an advisory lock; after ``timeout`` (LOCK_TIMEOUT), or where locks do not work, go on without it.

    Going on is safe because libraries are put in place by an atomic rename. The lock only saves double work, and
    the operating system releases it when its holder dies.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w") as file:
        deadline = time.monotonic() + (LOCK_TIMEOUT if timeout is None else timeout)
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
