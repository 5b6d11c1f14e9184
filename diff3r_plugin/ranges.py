"""Checks of settings; every message has the value, what was expected, and the setting's name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, Literal, get_args

PreconditionerName = Literal["jacobi", "block_jacobi", "none"]
PRECONDITIONERS: tuple[str, ...] = get_args(PreconditionerName)


def require_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}.")


def require_whole(name: str, value: Any, smallest: int) -> None:
    """Raise ValueError unless ``value`` is an int of at least ``smallest``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {smallest}.")


def require_share(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` lies in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} must lie in [0, 1).")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is positive and finite."""
    if not (_is_number(value) and value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be positive and finite.")


def require_pcg(iterations: int, tolerance: float, preconditioner: str, name: str = "pcg_iterations") -> None:
    """Raise ValueError unless these are settings of conjugate gradients; ``name`` is that of the iterations."""
    require_whole(name, iterations, 1)
    require_share("pcg_tolerance", tolerance)
    require_choice("preconditioner", preconditioner, PRECONDITIONERS)


def require_group_names(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` holds names of groups, all of them known."""
    known = tuple(known)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name}={value!r} must be several of {', '.join(known)}, like ('means', 'opacity').")
    wrong = [group for group in value if group not in known]
    if wrong:
        raise ValueError(f"{name} has unknown group {wrong[0]!r}; known are {', '.join(known)}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
