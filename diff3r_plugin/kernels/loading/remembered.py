"""Calls whose result, or failure, is that of the first time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Remembered(Generic[P, R]):
    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._known: dict[tuple, tuple[bool, R | Exception]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (args, tuple(sorted(kwargs.items())))
        if key not in self._known:
            try:
                self._known[key] = True, self._function(*args, **kwargs)
            except Exception as error:
                self._known[key] = False, error
        succeeded, outcome = self._known[key]
        if not succeeded:
            assert isinstance(outcome, Exception)
            raise outcome.with_traceback(None)
        return outcome  # type: ignore[return-value]

    def remember_failure(self, error: Exception, *args: P.args, **kwargs: P.kwargs) -> None:
        """Fail from now on for these arguments."""
        self._known[args, tuple(sorted(kwargs.items()))] = False, error

    def cache_clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def remembered(function: Callable[P, R]) -> _Remembered[P, R]:
    """As ``functools.cache``, for failures too: what does not compile is not compiled again at every call.

    Example:
        >>> from diff3r_plugin.kernels.loading.remembered import remembered
        >>> @remembered
        ... def tried(name):
        ...     print("trying", name)
        ...     raise ValueError(name)
        >>> for _ in range(2):
        ...     try:
        ...         tried("nvcc")
        ...     except ValueError as error:
        ...         print("no", error)
        trying nvcc
        no nvcc
        no nvcc
    """
    return _Remembered(function)
