"""Rounds in a row: which views each sees, when the scene grows, when it ends, and which round's scene is returned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import Outcome
from diff3r_plugin.memory import unknowns_per_gaussian
from diff3r_plugin.metrics import psnr
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.refine.cameras import Cameras, fitted, shown, unexposed, view_groups
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.growth import bounded, grown, with_scales
from diff3r_plugin.refine.round import RoundResult, run_round
from diff3r_plugin.refine.scoring import masked
from diff3r_plugin.refine.settings import ROUNDS_OF_MANY, RefineError, RoundSettings
from diff3r_plugin.refine.sources import ViewSource, camera_centers, validation_views
from diff3r_plugin.refine.split import views_of_round
from diff3r_plugin.views import Views

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


def run_rounds(
    state: Checkpoint,
    source: ViewSource,
    schedule: Schedule,
    settings: RoundSettings,
    after_round: Callable[[Checkpoint], None],
) -> Checkpoint:
    """The rounds that are still to do.

    Args:
        state: Where they begin.
        source: The context views.
        schedule: What they do.
        settings: How.
        after_round: Is given the state after each.

    Raises:
        RefineError: if nothing can be done with the scene or the views.
    """
    held = settings.all_weights()
    weights = ProximalWeights.of(held)
    firmly = ProximalWeights.of({group: SETTLING_WEIGHT * weight for group, weight in held.items()})
    while not is_finished(state.rounds, schedule):
        number, started = len(state.rounds), time.perf_counter()
        settling = has_gained_enough(state.rounds, schedule)
        if settling and state.best is not None and not state.rounds[-1]["settling"]:
            state = replace(state, scene=state.best, cameras=state.best_cameras)
        seen = range(len(source.names)) if settling else schedule.fitted
        order = views_of_round(len(seen), settings.views_per_round, number, settings.seed)
        chosen = [seen[i] for i in order]
        damping = first_damping(settings.tto.damping, state.rounds)
        views, pixel_weights, cameras = views_now(state, chosen, source, schedule, settings)
        scene = state.scene.to(views.device)
        config = replace(settings.layer(schedule.many), damping=damping)
        hold = firmly if settling else weights
        result = run_round(scene, views, hold, config, pixel_weights=pixel_weights, robust=settings.robust)
        _require_usable(result, number)
        between = replace(schedule, gaussians=schedule.start) if settling else schedule
        refined = _between_rounds(scene, result, number, source, between, settings) if schedule.many else result.scene
        score = None
        if schedule.validation and not settling and (number + 1) % VALIDATE_EVERY == 0:
            score, cameras = validation_psnr(refined, source, schedule.validation, settings, cameras)
        entry = {
            "round": number + 1,
            "views": [source.names[i] for i in chosen],
            "outcome": str(result.outcome),
            "energy_before": result.energy_before,
            "energy_after": result.energy_after,
            "accepted_steps": result.accepted_steps,
            "damping": damping,
            "gaussians": refined.num_gaussians,
            "validation_psnr": score,
            "settling": settling,
            "seconds": time.perf_counter() - started,
        }
        state = replace(state, scene=refined, rounds=[*state.rounds, entry], cameras=cameras)
        if state.best_round == number + 1:
            state = replace(state, best=refined, best_cameras=cameras)
        after_round(state)
    return state


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


def views_now(
    state: Checkpoint, chosen: Sequence[int], source: ViewSource, schedule: Schedule, settings: RoundSettings
) -> tuple[Views, Float[Tensor, "1 V H W"] | None, Cameras | None]:
    """The views of a round, their pixels' weights, and what is known of all cameras; None where they do not move.

    Where they do, each view of the round makes a step before it, with the scene as it is. The images are those that the
    views would have taken at no exposure of their own.
    """
    given, pixel_weights = source.load(chosen)
    groups = view_groups(settings.tto.groups)
    if not groups:
        return given, pixel_weights, None
    cameras = state.cameras or Cameras.given(source.world_to_camera)
    if len(state.rounds) >= schedule.views_from:
        views, exposure = fitted(
            state.scene.to(given.device),
            cameras.placed(given, chosen),
            cameras.exposures(chosen).to(given.device),
            groups,
            settings.tto.backend,
            given=given.world_to_camera,
            pixel_weights=pixel_weights,
            weights=settings.all_weights(),
            steps=CAMERA_STEPS,
        )
        cameras = cameras.with_views(chosen, views.world_to_camera, exposure)
        cameras = cameras.balanced(schedule.fitted, source.world_to_camera)
    placed = cameras.placed(given, chosen)
    return unexposed(placed, cameras.exposures(chosen).to(given.device)), pixel_weights, cameras


def validation_psnr(
    scene: Gaussians, source: ViewSource, numbers: Sequence[int], settings: RoundSettings, cameras: Cameras | None
) -> tuple[float, Cameras | None]:
    """Mean PSNR of the validation views, dB, of the pixels that count, one view at a time.

    Where poses or exposures move, those of each view are fitted before, with the scene as it is, and returned.
    """
    scores = []
    groups, backend = settings.tto.groups, settings.tto.backend
    for number in numbers:
        views, weights = source.load([number])
        exposure = scene.means.new_zeros(1, 1, 6)
        if cameras is not None:
            placed, exposure = cameras.placed(views, [number]), cameras.exposures([number]).to(views.device)
            views, exposure = fitted(scene, placed, exposure, groups, backend, pixel_weights=weights)
            cameras = cameras.with_views([number], views.world_to_camera, exposure)
        rendered = shown(scene, views, exposure, backend)
        truth, counted = masked(views.given_images, rendered, weights)
        scores.append(float(psnr(truth, rendered).mean()) + 10 * math.log10(counted))
    return fmean(scores), cameras


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


def _between_rounds(
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


def _require_usable(result: RoundResult, number: int) -> None:
    outcome = result.outcome
    if outcome in (Outcome.INVALID_GAUSSIANS, Outcome.INVALID_VIEWS):
        raise RefineError(
            f"Round {number + 1} could do nothing ({outcome}): {outcome.meaning}. Check the scene's scales and "
            "quaternions, and the cameras."
        )
