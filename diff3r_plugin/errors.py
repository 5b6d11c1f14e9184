"""What every error has in common that the user can put right; without torch, so that the command line knows it."""

from __future__ import annotations


class Diff3rError(Exception):
    """Something that the user can put right: the message says what is wrong and what to do, in one line.

    Commands print it and end with status 1.
    """


class UsageError(Diff3rError):
    """A command line that asks for what does not exist or does not fit together; commands end with status 2."""
