"""Which method of a host carries its scene: one that returns it, or one that is given it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RefinedMethod:
    """The method of the encoder module whose calls are refined.

    Args:
        name: The method's name. It must be called on the module, as ``module(...)`` for "forward".
        side: "output": the scene is in what the method returns. "input": it is in what the method is given (a renderer
            within a larger ``forward``); an adapter is then shown the arguments as a dictionary by parameter name.
    """

    name: str = "forward"
    side: str = "output"

    def __post_init__(self) -> None:
        if self.side not in ("input", "output"):
            raise ValueError(f"side must be 'input' or 'output', got {self.side!r}.")

    def refining(
        self, method: Callable[..., Any], refine: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    ) -> Callable[..., Any]:
        """The method with ``refine(scene, arguments, named)`` in between.

        >>> from diff3r_plugin.plugin.host.refined_method import RefinedMethod
        >>> def draw(scene, size=2): return f"{scene} at {size}"
        >>> def refine(given, arguments, named): return {**given, "scene": given["scene"].upper()}
        >>> RefinedMethod("draw", "input").refining(draw, refine)("room", size=3)
        'ROOM at 3'
        """
        if self.side == "output":
            return lambda *arguments, **named: refine(method(*arguments, **named), arguments, named)
        signature = inspect.signature(method)

        def refining(*arguments: Any, **named: Any) -> Any:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            bound.arguments.update(refine(dict(bound.arguments), arguments, named))
            return method(*bound.args, **bound.kwargs)

        return refining
