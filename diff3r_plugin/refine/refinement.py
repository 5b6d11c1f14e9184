"""A refinement in rounds as one object: it holds what stays the same, so that its methods take a scene alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.refine.cameras import Cameras, fitted, shown, unexposed, view_groups
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.round import RoundResult, run_round
from diff3r_plugin.refine.rounds import (
    CAMERA_STEPS,
    SETTLING_WEIGHT,
    VALIDATE_EVERY,
    Schedule,
    between_rounds,
    first_damping,
    has_gained_enough,
    is_finished,
    make_schedule,
    require_usable,
)
from diff3r_plugin.refine.scoring import RenderedView
from diff3r_plugin.refine.settings import RoundSettings
from diff3r_plugin.refine.sources import ViewSource
from diff3r_plugin.refine.split import views_of_round
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class Refinement:
    """One scene's refinement on its context views.

    It holds no scene: :meth:`step` takes the state after one round and returns that after the next.

    Args:
        settings: How.
        schedule: What the rounds do.
        context: The views to refine on.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.refine import Refinement, RoundSettings
        >>> from diff3r_plugin.refine.checkpoint import Checkpoint
        >>> from diff3r_plugin.refine.sources import ViewsInMemory
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> views = Views(torch.eye(4).expand(1, 2, 4, 4), K, torch.zeros(1, 2, 3, 16, 16))
        >>> refinement = Refinement.of(RoundSettings(), g, ViewsInMemory(views))
        >>> refined = refinement.step(Checkpoint(g, [])).result
        >>> refinement.score(refined)[0]["psnr"] > refinement.score(g)[0]["psnr"]
        True
    """

    settings: RoundSettings
    schedule: Schedule
    context: ViewSource

    @classmethod
    def of(
        cls, settings: RoundSettings, scene: Gaussians, context: ViewSource, *, from_points: bool = False
    ) -> Refinement:
        """One with the schedule that follows from the settings.

        Args:
            settings: How.
            scene: The start.
            context: The views to refine on.
            from_points: Whether the start is a cloud of points, which has to become a scene first.

        Raises:
            RefineError: if the validation leaves no view to refine on.
        """
        schedule = make_schedule(settings, scene, len(context.names), context.image_size, from_points)
        return cls(settings, schedule, context)

    def render(
        self, scene: Gaussians, number: int, views: ViewSource | None = None, cameras: Cameras | None = None
    ) -> RenderedView:
        """The scene where one image was taken, beside that image.

        Where poses or exposures move, those of the view are fitted to the scene before: twelve numbers of an image,
        without which a scene in a slightly other place would be called a worse one.

        Args:
            scene: One scene.
            number: Of the image.
            views: Where it is among; the context views by default.
            cameras: Where the fit begins; None for the poses as they were given.
        """
        source = views or self.context
        view, weights = source.load([number])
        scene, tto = scene.to(view.device), self.settings.tto
        exposure = scene.means.new_zeros(1, 1, 6)
        if view_groups(tto.groups):
            cameras = cameras or Cameras.given(source.world_to_camera)
            placed, exposure = cameras.placed(view, [number]), cameras.exposures([number]).to(view.device)
            view, exposure = fitted(scene, placed, exposure, tto.groups, tto.backend, pixel_weights=weights)
        return RenderedView(view, exposure, shown(scene, view, exposure, tto.backend), weights)

    def score(
        self, scene: Gaussians, views: ViewSource | None = None, cameras: Cameras | None = None
    ) -> list[dict[str, float]]:
        """``psnr`` (dB) and ``ssim`` of each view; one is in memory at a time. Arguments as :meth:`render` has them."""
        numbers = range(len((views or self.context).names))
        return [self.render(scene, number, views, cameras).scores() for number in numbers]

    def run(self, state: Checkpoint, after_round: Callable[[Checkpoint], None]) -> Checkpoint:
        """The rounds that are still to do.

        Args:
            state: Where they begin.
            after_round: Is given the state after each.

        Raises:
            RefineError: if nothing can be done with the scene or the views.
        """
        while not is_finished(state.rounds, self.schedule):
            state = self.step(state)
            after_round(state)
        return state

    def step(self, state: Checkpoint) -> Checkpoint:
        """The next round, whether or not the schedule asks for one.

        Args:
            state: Where it begins; stays as it is.

        Raises:
            RefineError: if nothing can be done with the scene or the views.
        """
        settings, schedule, source = self.settings, self.schedule, self.context
        number, started = len(state.rounds), time.perf_counter()
        settling = has_gained_enough(state.rounds, schedule)
        if settling and state.best is not None and not state.rounds[-1]["settling"]:
            state = replace(state, scene=state.best, cameras=state.best_cameras)
        seen = range(len(source.names)) if settling else schedule.fitted
        order = views_of_round(len(seen), settings.views_per_round, number, settings.seed)
        chosen = [seen[i] for i in order]
        damping = first_damping(settings.tto.damping, state.rounds)
        views, pixel_weights, cameras = self._views_now(state, chosen)
        scene = state.scene.to(views.device)
        config = replace(settings.layer(schedule.many), damping=damping)
        hold = self._weights(settling)
        result = run_round(scene, views, hold, config, pixel_weights=pixel_weights, robust=settings.robust)
        require_usable(result, number)
        refined, score = self._between_rounds(scene, result, number, settling), None
        if schedule.validation and not settling and (number + 1) % VALIDATE_EVERY == 0:
            score, cameras = self._validation_psnr(refined, cameras)
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
        return state

    def _views_now(
        self, state: Checkpoint, chosen: Sequence[int]
    ) -> tuple[Views, Float[Tensor, "1 V H W"] | None, Cameras | None]:
        """The views of a round, their pixels' weights, and what is known of all cameras; None where they do not move.

        Where they do, each view of the round makes a step before it, with the scene as it is. The images are those that
        the views would have taken at no exposure of their own.
        """
        settings, source = self.settings, self.context
        given, pixel_weights = source.load(chosen)
        groups = view_groups(settings.tto.groups)
        if not groups:
            return given, pixel_weights, None
        cameras = state.cameras or Cameras.given(source.world_to_camera)
        if len(state.rounds) >= self.schedule.views_from:
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
            cameras = cameras.balanced(self.schedule.fitted, source.world_to_camera)
        placed = cameras.placed(given, chosen)
        return unexposed(placed, cameras.exposures(chosen).to(given.device)), pixel_weights, cameras

    def _weights(self, settling: bool) -> ProximalWeights:
        firmer = SETTLING_WEIGHT if settling else 1.0
        return ProximalWeights.of({group: firmer * weight for group, weight in self.settings.all_weights().items()})

    def _between_rounds(self, before: Gaussians, result: RoundResult, number: int, settling: bool) -> Gaussians:
        if not self.schedule.many:
            return result.scene
        schedule = replace(self.schedule, gaussians=self.schedule.start) if settling else self.schedule
        return between_rounds(before, result, number, self.context, schedule, self.settings)

    def _validation_psnr(self, scene: Gaussians, cameras: Cameras | None) -> tuple[float, Cameras | None]:
        """Mean over the validation views, dB, and the cameras with what was found of these."""
        scores = []
        for number in self.schedule.validation:
            seen = self.render(scene, number, cameras=cameras)
            scores.append(seen.psnr())
            if cameras is not None:
                cameras = cameras.with_views([number], seen.view.world_to_camera, seen.exposure)
        return fmean(scores), cameras
