"""What a test says, in a few sentences that promise no more than it measured."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from diff3r_plugin.mean_and_error import MeanAndError
from diff3r_plugin.report.run_folder import SceneRecord

SURE = 2.0
"""Standard errors from which on a mean difference is called one."""

POOR_AGREEMENT = 40.0
"""dB below which the host's renderer and ours do not mean the same scene."""


@dataclass(frozen=True)
class Headline:
    """The first lines of the page.

    Args:
        gain: Mean gain in PSNR on the held-out views with its standard error, dB.
        verdict: What that means.
        notes: What else a reader has to know before believing it.
    """

    gain: MeanAndError
    verdict: str
    notes: list[str]

    @classmethod
    def of(cls, scenes: list[SceneRecord], unit: str = "scene", judged: str = "held-out views") -> Headline:
        """Of all scenes of a test, or of all views of one scene.

        Args:
            scenes: With their scores.
            unit: What each of them is, "scene" or "view".
            judged: The views that the scores are of.

        Example:
            >>> from diff3r_plugin.report.headline import Headline
            >>> from diff3r_plugin.report.run_folder import SceneRecord
            >>> one = SceneRecord("room", {"psnr": 20.0}, {"psnr": 21.0}, {}, None)
            >>> Headline.of([one]).verdict
            'One scene alone: nothing follows from it for others.'
        """
        gains = {scene.name: scene.gain("psnr") for scene in scenes}
        known = {name: gain for name, gain in gains.items() if not math.isnan(gain)}
        notes = _notes(scenes)
        if unit == "view":
            notes.insert(0, "All views are of one scene: the standard error says nothing of other scenes.")
        if judged == "context views":
            notes.insert(0, "No view was held out: refinement saw all of these, so that a gain says little.")
        return cls(MeanAndError.of(list(known.values())), _verdict(known, unit, judged), notes)


def _verdict(gains: dict[str, float], unit: str, judged: str) -> str:
    mean = MeanAndError.of(list(gains.values()))
    if not gains:
        return f"No {unit} has a PSNR before and after: there is nothing to compare."
    if len(gains) == 1:
        return f"One {unit} alone: nothing follows from it for others."
    better = sum(gain > 0 for gain in gains.values())
    each = f"{better} of {len(gains)} {unit}s gained"
    worst = min(gains, key=lambda name: gains[name])
    if gains[worst] < 0:
        each += f"; the largest loss is {gains[worst]:+.2f} dB ({worst})"
    if abs(mean.mean) < SURE * mean.standard_error or mean.mean == 0:
        return f"No difference that this test could tell from chance (less than two standard errors). {each}."
    if mean.mean < 0:
        return f"Refinement made the {judged} worse. {each}."
    return f"Refinement improved the {judged}. {each}."


def _notes(scenes: list[SceneRecord]) -> list[str]:
    notes = []
    context = MeanAndError.of([scene.gain("psnr_context") for scene in scenes])
    if not math.isnan(context.mean):
        notes.append(
            f"On the context views, which the refinement sees, PSNR rose by {context.text(2, sign=True)} dB; "
            "only held-out views tell whether that helps."
            if context.mean >= 0
            else f"On the context views, which the refinement sees, PSNR fell by {context.text(2)} dB: "
            "something is wrong with the refinement."
        )
    kept = Counter(
        str(scene.solver["outcome"]) for scene in scenes if scene.solver.get("outcome", "refined") != "refined"
    )
    if kept:
        listed = ", ".join(f"{count} × {outcome}" for outcome, count in kept.most_common())
        notes.append(
            f"{sum(kept.values())} of {len(scenes)} scenes kept their prediction, wholly or in part: {listed}."
        )
    agreements = [a for s in scenes if isinstance(a := s.solver.get("renderer_agreement_psnr"), (int, float))]
    if agreements and min(agreements) < POOR_AGREEMENT:
        notes.append(
            f"The host's renderer and ours differ by down to {min(agreements):.1f} dB (expected: over "
            f"{POOR_AGREEMENT:.0f}): what is best for one need not be for the other."
        )
    return notes
