"""What ``--jaxtyping-packages=...,shape_checks.checked`` checks: shapes, of every call that came to its end.

A function that refuses what it is given has done what its annotations promise, so arguments are looked at after the
call; tests of error messages run unchanged under the hook. Other annotations than shapes are mypy's to check: tests
give doubles where a class is annotated, too.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
Checked = TypeVar("Checked", bound=Callable[..., Any])


def checked(function: Checked) -> Checked:
    """The typechecker that jaxtyping calls twice a function: once with its arguments, once with its result as well."""
    if not _is_given_the_result(function):
        return function
    shapes = {name: _checkable(hint) for name, hint in function.__annotations__.items() if _has_a_shape(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return _check(function)


def _is_given_the_result(function: Callable[..., Any]) -> bool:
    """jaxtyping gives it by a keyword of its own, behind all others."""
    keywords = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return bool(keywords) and re.fullmatch(r"ret\d+", keywords[-1].name) is not None


def _has_a_shape(hint: object) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_has_a_shape(part) for part in get_args(hint))


def _checkable(hint: Any) -> Any:
    """The hint with anything in place of protocols, of which no object knows whether it follows them."""
    if getattr(hint, "_is_protocol", False):
        return Any
    parts = get_args(hint)
    changed = tuple(map(_checkable, parts))
    if changed == parts or get_origin(hint) is None:
        return hint
    return Union[changed] if get_origin(hint) in (Union, UnionType) else get_origin(hint)[changed]  # noqa: UP007
