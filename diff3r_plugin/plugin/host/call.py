"""One call of the method of a host that carries its scene: what an adapter may know of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, eq=False)
class Call:
    """A call of `HostAdapter.refined`, within a step of the host.

    Args:
        wrapper: The host's LightningModule, or its model.
        arguments, named: As the host gave them.
        batch: Of the step; once the host's data shim has run, what that made of it.
        stage: "train", "val" or "test".
        parameters: Names of the method's parameters, in their order.

    Example:
        >>> from diff3r_plugin.plugin import Call
        >>> call = Call(arguments=("context", 7), named={"dump": {}}, parameters=("context", "global_step", "dump"))
        >>> call.argument("global_step"), call.argument("dump"), call.argument("deterministic")
        (7, {}, None)
    """

    wrapper: Any = None
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    batch: Any = None
    stage: str = ""
    parameters: tuple[str, ...] = ()

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by its parameter's name, however it was given; ``default`` where it was not."""
        if name in self.named:
            return self.named[name]
        position = self._position(name)
        return default if position is None else self.arguments[position]

    def with_copies(self, names: tuple[str, ...]) -> Call:
        """The same call with copies of these arguments, which may be written to unseen by the host."""
        arguments, named = list(self.arguments), dict(self.named)
        for name in names:
            position = self._position(name)
            if name in named:
                named[name] = copy.copy(named[name])
            elif position is not None:
                arguments[position] = copy.copy(arguments[position])
        return replace(self, arguments=tuple(arguments), named=named)

    def _position(self, name: str) -> int | None:
        position = self.parameters.index(name) if name in self.parameters else len(self.arguments)
        return position if position < len(self.arguments) else None


NO_CALL = Call()
"""Of an output that nobody has called for: it has no arguments."""
