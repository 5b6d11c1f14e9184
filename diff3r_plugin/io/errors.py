"""The one kind of error that readers raise, and the one for a package that is missing."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from diff3r_plugin.errors import Diff3rError


class FileError(Diff3rError, ValueError):
    """A file that cannot be read as what it should be: which one, what is wrong with it, and what to do.

    Args:
        path: The file or folder.
        problem: What is wrong.
        cure: What to do about it.

    Example:
        >>> from diff3r_plugin.io import FileError
        >>> print(FileError("scene.ply", "it ends in its header.", "Copy it again."))
        scene.ply: it ends in its header. Copy it again.
    """

    def __init__(self, path: Path | str, problem: str, cure: str) -> None:
        super().__init__(f"{path}: {problem} {cure}")
        self.path, self.problem, self.cure = Path(path), problem, cure


class MissingImageError(FileError):
    """An image that a file names and that is not there."""


class FileWarning(UserWarning):
    """What a file says that changes the scene or its images and that cannot be taken as it stands, and what was done.

    The same text is shown once, as Python's warnings are.
    """


def tell(path: Path | str, what: str) -> None:
    """Warn of something in a file.

    Example:
        >>> import warnings
        >>> from diff3r_plugin.io.errors import tell
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     tell("transforms.json", "n_frames=3: the first 3 frames are used.")
        >>> str(told[0].message)
        'transforms.json: n_frames=3: the first 3 frames are used.'
    """
    warnings.warn(f"{path}: {what}", FileWarning, stacklevel=2)


class MissingPackageError(Diff3rError, ImportError):
    """A package that a file format needs and that is not installed; the message names the extra."""


def require(module: str, purpose: str, extra: str = "refine") -> ModuleType:
    """Import a module of an extra of this package.

    Raises:
        MissingPackageError: with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{purpose} needs the package {error.name!r}: pip install 'diff3r-plugin[{extra}]'"
        ) from error


@contextmanager
def reading(path: Path | str, kind: str, cure: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read, as a :class:`FileError`.

    Libraries fail on damaged files in ways that nobody can list. An error that says what it is passes as it is.
    """
    try:
        yield
    except (FileError, MissingPackageError):
        raise
    except FileNotFoundError as error:
        raise FileError(path, "there is no such file.", "Check the path.") from error
    except IsADirectoryError as error:
        raise FileError(path, f"it is a folder, not {kind}.", "Give the file in it.") from error
    except PermissionError as error:
        raise FileError(path, "it may not be read.", "Check its permissions.") from error
    except Exception as error:  # MemoryError is one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(path, f"it cannot be read as {kind} ({reason[:300]}).", cure) from error
