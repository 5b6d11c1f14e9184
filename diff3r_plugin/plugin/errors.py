"""The one kind of error the plugin raises for things that its user can put right."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from diff3r_plugin.errors import Diff3rError

P = ParamSpec("P")
T = TypeVar("T")


TRACEBACK = "DIFF3R_TRACEBACK"
"""Environment variable: errors that are one line otherwise come with their traceback."""


def full_traceback() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get(TRACEBACK, "").strip().lower() not in ("", "0", "off", "no", "false")


class PluginError(Diff3rError):
    """A setting, name, checkout or checkpoint that the plugin cannot work with; the message says what to do.

    Attributes:
        reported: Whether it has been printed already.
    """

    reported: bool = False


def announced(function: Callable[P, T], report: Callable[[PluginError], None]) -> Callable[P, T]:
    """The function, of which every `PluginError` is reported as it is raised: some hosts swallow all exceptions."""

    @functools.wraps(function)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except PluginError as error:
            if not error.reported:
                error.reported = True
                report(error)
            raise

    return reporting


def unknown_name(kind: str, name: str, known: Iterable[str], cure: str = "") -> PluginError:
    """An error for a name that does not exist, with the nearest known one.

    >>> print(unknown_name("setting", "diff3r.iner_steps", ["diff3r.inner_steps", "diff3r.backend"]))
    unknown setting 'diff3r.iner_steps'. Did you mean 'diff3r.inner_steps'? Known: diff3r.backend, diff3r.inner_steps.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return PluginError(
        f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.{' ' + cure if cure else ''}"
    )
