"""What tables call the trainings."""

from __future__ import annotations

from benchmarks.study.experiments import AS_LONG_AS

TITLES = {
    "plain": "plain fine-tuning",
    "plain_longer": "plain fine-tuning, three times the steps",
    "implicit": "Diff3R, implicit gradient",
    "stepwise": "Diff3R, discrete adjoint of the solver",
    "first_order": "Diff3R, first order",
    "implicit_held": "Diff3R, implicit, unrefined scene held",
    "implicit_lightly_held": "Diff3R, implicit, unrefined scene held at 0.1",
    "eight_steps": "Diff3R, implicit, eight inner steps",
    "eight_steps_lightly_held": "Diff3R, implicit, eight inner steps, unrefined scene held at 0.1",
    "two_steps": "Diff3R, implicit, two inner steps",
    "two_steps_held": "Diff3R, implicit, two inner steps, unrefined scene held",
    "stepwise_held": "Diff3R, discrete adjoint, unrefined scene held",
    "stepwise_lightly_held": "Diff3R, discrete adjoint, unrefined scene held at 0.3",
    "scalars": "Diff3R, weights not learned",
    "cross_view": "Diff3R, head sees the other views",
    "cross_view_held": "Diff3R, head sees the other views, unrefined scene held",
    "head_only": "Diff3R, head alone, host as it is",
    "searched": "Diff3R, group bases searched",
    "corrupted_plain": "plain fine-tuning",
    "corrupted_off": "Diff3R, w off",
    "corrupted_poses": "Diff3R, w off, poses move",
    "corrupted_learned": "Diff3R, w learned",
    "corrupted_supervised": "Diff3R, w told first, then learned",
    "corrupted_exposure": "Diff3R, the same and exposures",
    "corrupted_cameras": "Diff3R, the same, exposures and poses",
}


def title(variant: str) -> str:
    """What a table calls a training."""
    other = variant.removeprefix(AS_LONG_AS)
    if other != variant:
        return f"plain, as many seconds as: {title(other)}"
    return TITLES.get(variant, variant)
