"""Every change the plugin makes to a host's classes: small, listed, reversible."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_ABSENT = object()


@dataclass(frozen=True)
class Patch:
    """One attribute of one class (or object) that is replaced.

    Args:
        owner: The class or object.
        attribute: Name of the attribute.
        make: Receives the present value (None when there is none) and returns the new one.
        why: One line for ``diff3r doctor``.
        on_copies: Whether copies of an object are changed, too; ``make`` must then hold nothing of the object.
    """

    owner: Any
    attribute: str
    make: Callable[[Any], Any]
    why: str
    on_copies: bool = False

    def __str__(self) -> str:
        owner = self.owner if isinstance(self.owner, type) else type(self.owner)
        return f"{owner.__module__}.{owner.__qualname__}.{self.attribute}: {self.why}"


@dataclass
class Patches:
    """Patches that are in force, newest last.

    Example:
        >>> from diff3r_plugin.plugin.attaching.patching import Patch, Patches
        >>> class Host:
        ...     def step(self): return "plain"
        >>> patches = Patches()
        >>> patches.apply(Patch(Host, "step", lambda old: lambda self: old(self) + "!", "shouts"))
        >>> Host().step()
        'plain!'
        >>> patches.revert(); Host().step()
        'plain'
    """

    applied: list[tuple[Patch, Any]] = field(default_factory=list)

    def apply(self, patch: Patch) -> None:
        """Put a patch in force."""
        previous = vars(patch.owner).get(patch.attribute, _ABSENT)
        made = patch.make(getattr(patch.owner, patch.attribute, None))
        setattr(
            patch.owner, patch.attribute, made if isinstance(patch.owner, type) else _Override(made, patch, previous)
        )
        self.applied.append((patch, previous))

    def revert(self) -> None:
        """Undo all patches, newest first; every attribute is what it was."""
        while self.applied:
            patch, previous = self.applied.pop()
            if previous is _ABSENT:
                delattr(patch.owner, patch.attribute)
            else:
                setattr(patch.owner, patch.attribute, previous)

    def __iter__(self) -> Iterator[Any]:
        return (patch for patch, _ in self.applied)


class _Override:
    """The new value of an object's attribute, a callable.

    A function would be shared by the object's copies and act on the object itself: a running mean of a host's weights
    would have the parameters of the model that it is the mean of. What copying and pickling give is the host's own.
    """

    def __init__(self, function: Callable[..., Any], patch: Patch, previous: Any) -> None:
        self.function, self.patch, self.previous = function, patch, previous
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        patch, previous = self.patch, None if self.previous is _ABSENT else self.previous
        return _of_a_copy, (patch.owner, patch.attribute, previous, patch.make if patch.on_copies else None, patch.why)


def _of_a_copy(owner: Any, attribute: str, previous: Any, make: Callable[[Any], Any] | None, why: str) -> Any:
    """What a copy has in place of an override; it has no attributes yet and answers with those of its class."""
    own = getattr(owner, attribute, None) if previous is None else previous
    if make is None:
        return own
    patch = Patch(owner, attribute, make, why, on_copies=True)
    return _Override(make(own), patch, _ABSENT if previous is None else previous)


def around(before_and_after: Callable[..., Any]) -> Callable[[Callable[..., Any] | None], Callable[..., Any]]:
    """A `Patch.make` from a function ``(original, self, *args, **kwargs)``; a missing original does nothing."""

    def make(original: Callable[..., Any] | None) -> Callable[..., Any]:
        original = original or (lambda self, *args, **kwargs: None)

        @functools.wraps(original)
        def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
            return before_and_after(original, self, *args, **kwargs)

        return patched

    return make
