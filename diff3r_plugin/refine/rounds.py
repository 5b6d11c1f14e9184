"""The rules of rounds in a row: how many there are, when the scene grows, how damped each begins, when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import Outcome
from diff3r_plugin.memory import unknowns_per_gaussian
from diff3r_plugin.refine.growth import bounded, grown, with_scales
from diff3r_plugin.refine.round import RoundResult
from diff3r_plugin.refine.settings import ROUNDS_OF_MANY, RefineError, RoundSettings
from diff3r_plugin.refine.sources import ViewSource, camera_centers, validation_views

RAISE, HOPELESS = 8.0, 1e5
"""Of the damping after a round in which no step lowered the energy; beyond this it begins anew."""

GROW_FROM, GROW_EVERY, GROWTHS = 20, 2, 30
"""Rounds before the first growth, from one to the next, and how many there are, each by the same factor: a few
Gaussians find their places in less time than many do."""
OBSERVED = 3
"""Numbers of the images that a scene which grows by itself leaves for each unknown."""

VALIDATE_EVERY, PATIENCE, GAIN = 4, 48, 0.01
"""Rounds from one validation to the next; it ends where so many rounds gained less than so many dB."""
SETTLING_TURNS, SETTLING_WEIGHT = 3, 4.0
"""Turns through all context views after that, from the best scene, and by how much rounds hold it more firmly."""
MOST_ROUNDS = 2000
VIEWS_FROM, CAMERA_STEPS = 10, 1
"""Rounds from points before poses and exposures move, and the steps that these take before each round."""


@dataclass(frozen=True)
class Schedule:
    """What the rounds will do.

    Args:
        many: Whether there is more than one round that sees all views.
        fitted: Numbers of the views that rounds see.
        validation: Numbers of those that tell when to end.
        rounds: How many at most.
        settling: How many of them come after validation gains no more; 0 where it does not decide.
        start: Gaussians at the start.
        gaussians: The scene grows to at most so many.
        views_from: Rounds before poses and exposures move, where they do.
    """

    many: bool
    fitted: Sequence[int]
    validation: Sequence[int]
    rounds: int
    settling: int
    start: int
    gaussians: int
    views_from: int = 0

    def gaussians_after(self, rounds: int) -> int:
        """How many Gaussians the scene may have after so many rounds.

        Example:
            >>> from diff3r_plugin.refine.rounds import Schedule
            >>> schedule = Schedule(True, [0], [], rounds=100, settling=0, start=100, gaussians=1000)
            >>> [schedule.gaussians_after(rounds) for rounds in (20, 21, 23, 51, 200)]
            [100, 108, 117, 341, 1000]
        """
        grown = min(max(0, rounds - GROW_FROM + 1) // GROW_EVERY, GROWTHS)
        return round(self.start * (self.gaussians / self.start) ** (grown / GROWTHS))


def make_schedule(
    settings: RoundSettings, scene: Gaussians, views: int, image_size: tuple[int, int], from_points: bool
) -> Schedule:
    """The schedule of a refinement.

    Args:
        settings: What was asked for.
        scene: The start.
        views: Context views, how many.
        image_size: (H, W) of each.
        from_points: Whether the start is a cloud of points, which has to become a scene first.

    Raises:
        RefineError: if the validation leaves no view to refine on.
    """
    many = views > settings.views_per_round or from_points
    validation = validation_views(views, settings.validation, many)
    if len(validation) >= views:
        raise RefineError(f"validation={len(validation)} leaves none of the {views} context views to refine on.")
    fitted = [number for number in range(views) if number not in validation]
    default = MOST_ROUNDS if validation else ROUNDS_OF_MANY if many else 1
    most = settings.max_gaussians or scene.num_gaussians
    if settings.max_gaussians is None and from_points:
        numbers = 3 * image_size[0] * image_size[1] * len(fitted)
        most = numbers // (OBSERVED * unknowns_per_gaussian(settings.tto.groups, scene.sh_degree))
    turn = -(-views // settings.views_per_round)
    return Schedule(
        many,
        fitted,
        validation,
        rounds=settings.rounds or default,
        settling=SETTLING_TURNS * turn if validation and settings.rounds is None else 0,
        start=scene.num_gaussians,
        gaussians=max(most, scene.num_gaussians),
        views_from=VIEWS_FROM if from_points else 0,
    )


def is_finished(rounds: Sequence[Mapping[str, Any]], schedule: Schedule) -> bool:
    """Whether there is nothing more to do, by what is recorded of the rounds alone."""
    if len(rounds) >= schedule.rounds:
        return True
    return sum(entry["settling"] for entry in rounds) >= schedule.settling > 0


def has_gained_enough(rounds: Sequence[Mapping[str, Any]], schedule: Schedule) -> bool:
    """Whether validation says that it is time to settle: the last rounds were no better than the best before."""
    if rounds and rounds[-1]["settling"]:
        return True
    if not schedule.settling:
        return False
    if len(rounds) <= PATIENCE:
        return False
    scores = [(entry["round"], entry["validation_psnr"]) for entry in rounds if entry["validation_psnr"] is not None]
    last = len(rounds) - PATIENCE
    before = max((score for number, score in scores if number <= last), default=-float("inf"))
    recent = max((score for number, score in scores if number > last), default=-float("inf"))
    return recent < before + GAIN


def first_damping(given: float, rounds: Sequence[Mapping[str, Any]]) -> float:
    """The damping that the next round begins with: raised by every round whose steps all failed, lowered by others.

    A round begins anew, and would fail anew with the damping that the one before failed with. It follows from what is
    recorded of the rounds alone, so that a resumed run agrees.

    Example:
        >>> from diff3r_plugin.refine.rounds import first_damping
        >>> [first_damping(1.0, [{"accepted_steps": n} for n in steps]) for steps in ((), (0, 0), (0, 0, 2), 6 * (0,))]
        [1.0, 64.0, 32.0, 1.0]
    """
    damping = given
    for entry in rounds:
        damping = max(damping / 2, given) if entry["accepted_steps"] else damping * RAISE
        if damping > max(HOPELESS, given):  # not the length of the steps: with more damping they would fail for good
            damping = given
    return damping


def between_rounds(
    before: Gaussians,
    result: RoundResult,
    number: int,
    source: ViewSource,
    schedule: Schedule,
    settings: RoundSettings,
) -> Gaussians:
    """Bounds sizes, and lets the scene grow towards what the schedule allows."""
    if result.scene.num_gaussians >= schedule.gaussians and before.scales is None:
        return result.scene
    before, scene = with_scales(before), with_scales(result.scene)
    scene = bounded(scene, before, camera_centers(source.world_to_camera).to(scene.means), source.focal)
    target = schedule.gaussians_after(number + 1)
    if schedule.gaussians == schedule.start or number < GROW_FROM or (number - GROW_FROM) % GROW_EVERY:
        return scene
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
    return grown(scene, result.missed, target, generator)


def require_usable(result: RoundResult, number: int) -> None:
    """Raises where a round could do nothing with the scene or its views."""
    outcome = result.outcome
    if outcome in (Outcome.INVALID_GAUSSIANS, Outcome.INVALID_VIEWS):
        raise RefineError(
            f"Round {number + 1} could do nothing ({outcome}): {outcome.meaning}. Check the scene's scales and "
            "quaternions, and the cameras."
        )
