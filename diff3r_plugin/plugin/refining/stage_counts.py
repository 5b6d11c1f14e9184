"""How many steps of each stage of a host held a refined call: a stage without any is said, not passed over."""

from __future__ import annotations

from collections import Counter

from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.step import Step


class StageCounts:
    """Counts the steps of one model.

    Args:
        context: The run's settings and adapter.
        method: Name of the method whose calls are refined, for the message.
    """

    def __init__(self, context: RunContext, method: str) -> None:
        self.context, self.method = context, method
        self._steps: Counter[str] = Counter()
        self._refined: Counter[str] = Counter()
        self._told: set[str] = set()

    def add(self, step: Step, warming_up: bool) -> None:
        """A step has ended; one of the warm-up is not meant to be refined."""
        if not warming_up:
            self._steps[step.stage] += 1
            self._refined[step.stage] += len(step.calls)

    def end(self, stage: str) -> None:
        """A stage has ended: say once if it was to be refined and none of its steps was."""
        wanted = stage in self.context.settings.refine and self._steps[stage] > 0
        if not wanted or self._refined[stage] or stage in self._told:
            return
        self._told.add(stage)
        self.context.say(
            f"nothing was refined in {stage}: {self._steps[stage]} step(s) ended without a call of the encoder's "
            f"{self.method} that holds a scene. If this configuration lets another method carry it, adapter "
            f"{self.context.adapter.name!r} has to say so (refined_of)."
        )
