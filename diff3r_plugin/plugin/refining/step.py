"""One training, validation or test step of a host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.plugin.refining.refinement import Refinement


@dataclass(frozen=True, eq=False)
class RefinedCall:
    """One refined call of the encoder within a step.

    Args:
        refinement: What went in and came out.
        batch: The part of the step's batch that the call is about (``HostAdapter.batch_of_call``).
    """

    refinement: Refinement
    batch: Any


@dataclass(eq=False)
class Step:
    """What the host is working on, and what was refined meanwhile.

    Args:
        stage: "train", "val" or "test".
        batch: The batch the step was given; once the host's data shim has run, what that made of it.
        calls: The encoder calls that were refined, in their order; some hosts make several a step.
        drawn: Images that the host itself rendered meanwhile (``HostAdapter.draws``), at test.
        confidence: Of the context pixels, where a call was not refined but the confidence head learns from it.
    """

    stage: str
    batch: Any
    calls: list[RefinedCall] = field(default_factory=list)
    drawn: list[Float[Tensor, "B V 3 H W"]] = field(default_factory=list)
    confidence: Float[Tensor, "B V H W"] | None = None

    def takes_in(self, model: nn.Module) -> bool:
        """Whether an encoder call of the model at this moment is one of the step's."""
        return True

    @property
    def latest(self) -> RefinedCall | None:
        """The last refined call, if there was any."""
        return self.calls[-1] if self.calls else None
