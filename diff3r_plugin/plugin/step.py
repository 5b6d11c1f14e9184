"""One training, validation or test step of a host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diff3r_plugin.plugin.refinement import Refinement


@dataclass(eq=False)
class Step:
    """What the host is working on, and what was refined meanwhile.

    Args:
        stage: "train", "val" or "test".
        batch: The batch the step was given; once the host's data shim has run, what that made of it.
        refinements: The encoder calls that were refined, in their order.
    """

    stage: str
    batch: Any
    refinements: list[Refinement] = field(default_factory=list)

    @property
    def latest(self) -> Refinement | None:
        """The last refined encoder call, if there was any."""
        return self.refinements[-1] if self.refinements else None
