"""From a host's encoder output to the refined one: adapter, poses, head and layer in a row."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.containment import ordinary
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.call import Call
from diff3r_plugin.plugin.host.chosen_views import ChosenViews
from diff3r_plugin.plugin.host.feature_tap import FeatureTap
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.call_reader import CallReader
from diff3r_plugin.plugin.refining.context_poses import poses_of_stages, with_pose_weights
from diff3r_plugin.plugin.refining.pixel_confidence import PixelConfidence
from diff3r_plugin.plugin.refining.pose_sources import ESTIMATED, PoseSource
from diff3r_plugin.plugin.refining.ray_check import distance_from_pixels, tolerance
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.weights import Weights
from diff3r_plugin.render import resolve_backend
from diff3r_plugin.validation import check_conventions, check_inputs, require_something_to_refine
from diff3r_plugin.views import Views


class Refiner:
    """Refines what an encoder returns.

    Args:
        wrapper: The host's LightningModule.
        context: The run's settings and adapter.

    Raises:
        PluginError: if the model is not what the adapter expects, or the settings ask for what is unavailable here.
    """

    def __init__(self, wrapper: nn.Module, context: RunContext) -> None:
        settings, adapter = context.settings, context.adapter
        self.wrapper, self.adapter, self.settings = wrapper, adapter, settings
        self.poses = poses_of_stages(settings, adapter)
        self.reader = CallReader(wrapper, adapter, settings.context_poses)
        # a warning at every training step would bury everything else: the reporter gives it now and then
        config = replace(settings.tto, stationarity_warning=None)
        with_poses = replace(config, groups=tuple(dict.fromkeys((*config.groups, "poses"))))
        # checked below, once a call; the reporter tells of fallbacks, too
        self.layer = TTOLayer(config, validate=False, warn_of_fallbacks=False)
        self.layer_with_poses = TTOLayer(with_poses, validate=False, warn_of_fallbacks=False)
        try:  # compiles the kernels where that has not been done yet: before training, and before anything is timed
            resolve_backend(config.backend, "cuda" if torch.cuda.is_available() else "cpu")
        except ValueError as error:
            raise PluginError(f"diff3r.backend={config.backend}: {error}") from error
        encoder = adapter.encoder(wrapper)
        tap = adapter.tap_of(encoder) if "learned" in (settings.head, settings.confidence) else None
        self.tap = None if tap is None else FeatureTap(encoder, tap)
        channels = 0 if self.tap is None else self.tap.channels
        self.chosen = ChosenViews(encoder, adapter.chosen_views if settings.head == "learned" else None)
        if self.chosen.active and settings.confidence == "learned":
            raise PluginError(
                f"diff3r.confidence=learned does not fit adapter {adapter.name!r}: this encoder predicts Gaussians for "
                "some of the context views only, and the others have none to be judged by. Leave the setting out."
            )
        self.grids = adapter.alignment(encoder)
        if self.grids is None and ESTIMATED in self.poses.values():
            raise PluginError(
                f"diff3r.context_poses=estimate does not fit adapter {adapter.name!r}: poses are estimated from "
                "pixel-aligned Gaussians, and this host's stand on no grid. Use diff3r.context_poses=batch."
            )
        self.weights = Weights(context, channels, self.grids)
        self.confidence = PixelConfidence(context, channels)
        self._checked: set[tuple[str, str]] = set()

    def of_a_copy(self, encoder: nn.Module) -> Refiner:
        """The same for a copy of the encoder: by the same heads, from features of its own."""
        other = copy.copy(self)
        other.tap = None if self.tap is None else FeatureTap(encoder, self.tap.tap)
        other.chosen = ChosenViews(encoder, self.chosen.choice)
        other._checked = set()
        return other

    def before_encoder(self) -> None:
        """Drop features of an earlier call."""
        if self.tap is not None:
            self.tap.forget()

    def __call__(self, output: Any, call: Call) -> Refinement:
        """Refine what one call of a host's method gave.

        Raises:
            PluginError: for what the layer or the head refuses: images outside [0, 1], shapes that disagree, ...
        """
        started = time.perf_counter()
        stage, original = call.stage, call.with_copies(self.adapter.mutable)
        with self.reader.naming_the_adapter():
            gaussians, tracked, pruned = self.reader.read(
                output, original
            )  # cameras that the host predicts keep their graph
            given = self.reader.given_poses(tracked.detach(), output, original)
            source = self.reader.poses_source(output, original) or self.poses[stage]
            placed = source.place(gaussians, tracked, given)
            views = placed.views
            batch, count = views.batch_size, views.num_views
            seen = self.chosen.of(views)  # those that the Gaussians stand on
            features = self._features(seen)
            self._check(gaussians, views, stage)
            self._check_rays(gaussians, seen, stage)
            weights = self.weights(gaussians, seen, features, count if self.chosen.active else None)
            confidence, untrusted = self.confidence(gaussians, views, features)
            if source.moves:
                weights = with_pose_weights(weights, self.settings, batch, count)
            refined, info = self._layer_of(source)(gaussians, placed.start, weights, confidence)
            after = self.reader.written(output, refined, pruned, source.written_cameras(info), call)
        seconds = time.perf_counter() - started
        return Refinement(
            before=output,
            after=after,
            gaussians=gaussians.detach(),
            refined=refined.detach(),
            views=views,
            weights=weights,
            confidence=confidence,
            untrusted=untrusted,
            info=info,
            seconds=seconds,
            poses=placed.estimate,
            given_cameras=given,
            source=source,
            pruned=pruned,
            call=original,
            call_after=call,
        )

    def confidence_alone(self, output: Any, call: Call) -> Float[Tensor, "B V H W"] | None:
        """How much each context pixel is trusted, without refining anything; None where that is not learned.

        Raises:
            PluginError: as a refinement.
        """
        with self.reader.naming_the_adapter():
            gaussians, views, _ = self.reader.read(output, call.with_copies(self.adapter.mutable))
            views = views.detach()
            return self.confidence(gaussians, views, self._features(self.chosen.of(views)))[0]

    def with_scene(self, refinement: Refinement, scene: Gaussians) -> Refinement:
        """The same call with another scene in place of the refined one, seen by cameras that did not move."""
        call = refinement.call.with_copies(self.adapter.mutable)
        return replace(
            refinement,
            after=self.reader.written(refinement.before, scene, refinement.pruned, None, call),
            call_after=call,
            refined=scene.detach(),
            info=replace(refinement.info, views=refinement.views),
        )

    def again(self, refinement: Refinement, inner_steps: int) -> Refinement:
        """The same prediction refined with another number of steps."""
        source = refinement.source
        groups = self._layer_of(source).groups
        config = replace(self.settings.tto, inner_steps=inner_steps, groups=groups, stationarity_warning=None)
        views = source.start_again(refinement.views, refinement.poses)
        started = time.perf_counter()
        layer = TTOLayer(config, validate=False, warn_of_fallbacks=False)
        refined, info = layer(refinement.gaussians, views, refinement.weights, refinement.confidence)
        cameras = source.written_cameras(info)
        call = refinement.call.with_copies(self.adapter.mutable)  # the host's own hold the final result
        return replace(
            refinement,
            after=self.reader.written(refinement.before, refined, refinement.pruned, cameras, call),
            call_after=call,
            refined=refined.detach(),
            info=info,
            seconds=time.perf_counter() - started,
        )

    def _layer_of(self, source: PoseSource) -> TTOLayer:
        return self.layer_with_poses if source.moves else self.layer

    def _features(self, seen: Views) -> Float[Tensor, "B V C h w"] | None:
        """What the tap has seen of these views."""
        return None if self.tap is None else ordinary(self.tap.take(seen.batch_size, seen.num_views, *seen.image_size))

    def _check(self, gaussians: Gaussians, views: Views, stage: str) -> None:
        """Every call: conventions. The first of a stage: that the cameras see something of the scenes, too.

        Later on a network may well predict a scene that no camera sees; that is a loss, and no reason to stop.
        """
        require_something_to_refine(gaussians, views)
        if self._first("inputs", stage):
            check_inputs(gaussians, views)
        else:
            check_conventions(gaussians, views)

    def _check_rays(self, gaussians: Gaussians, views: Views, stage: str) -> None:
        """Once a stage: a relative of the host that reorders its Gaussians, or those of other views, is found out."""
        if self.settings.head == "fixed" or not self.adapter.along_rays or not self._first("rays", stage):
            return
        grids = self.grids or ()
        if sum(grid.count(views.num_views, *views.image_size) for grid in grids) != gaussians.num_gaussians:
            return  # on no grid, fewer samples a pixel, or an error of the head's own
        distance, allowed = distance_from_pixels(gaussians, views, grids), tolerance(views, grids)
        if distance > allowed:
            raise PluginError(
                f"the Gaussians of this host do not lie on the rays through their pixels, as adapter "
                f"{self.adapter.name!r} says: their median distance is {distance:.1f} pixels, expected was at most "
                f"{allowed:.1f}. Is this {self.adapter.repository}, or a relative of it? diff3r.head=fixed works "
                "whatever the Gaussians' order; otherwise it needs an adapter that declares its alignment."
            )

    def _first(self, check: str, stage: str) -> bool:
        """Whether a check has not been made in this stage yet."""
        known = (check, stage) in self._checked
        self._checked.add((check, stage))
        return not known
