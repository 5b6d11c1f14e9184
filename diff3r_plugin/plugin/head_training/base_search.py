"""Finds the base weight of each parameter group by trying, on training scenes, at test's number of inner steps.

The gradient of a few inner steps says little of a number that scales all of them at once, and following it worsens its
own objective more often than not. Five numbers can be tried instead: now and then, on the last scenes of the training.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.heads.weight_head import WeightHead
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.step import Step
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

FACTORS = (0.6, 1 / 0.6)
"""Tried on each group's base, one group at a time."""


@dataclass(frozen=True, eq=False)
class _Remembered:
    """Scenes of one training step: what they are refined on, what they are judged by, and the weights of then."""

    gaussians: Gaussians
    context: Views
    target: Views
    weights: Mapping[str, Tensor]
    confidence: Tensor | None
    bases: Mapping[str, float]


class BaseSearch:
    """The search of one model of a host.

    Args:
        wrapper: The host's LightningModule.
        context: The run's settings and adapter.
        head: The uncertainty head, whose bases are then searched and not learned.

    Raises:
        PluginError: if the head is not one whose bases can be searched.
    """

    def __init__(self, wrapper: Any, context: RunContext, head: object) -> None:
        settings = context.settings
        if not isinstance(head, WeightHead):
            raise PluginError(
                "diff3r.base_search_every searches the bases of the uncertainty head; "
                f"{'diff3r.head=fixed has none' if head is None else f'{type(head).__name__} has none'}. Set it to 0."
            )
        self.wrapper, self.context, self.head = wrapper, context, head
        head.log_base.requires_grad_(False)
        self.layer = TTOLayer(
            replace(settings.tto, inner_steps=settings.base_search_inner_steps, stationarity_warning=None),
            validate=False,  # the step whose scenes are tried has been checked
            warn_of_fallbacks=False,
        )
        self._memory: deque[_Remembered] = deque(maxlen=settings.base_search_scenes)
        self._seen = 0

    def observe(self, step: Step) -> None:
        """At the end of a refined training step: remember its scenes, and search if it is time."""
        call = step.latest
        if call is None or call.refinement.source.moves:
            return  # nothing was refined, or poses moved, at a weight of their own
        refinement = call.refinement
        if loop_of(self.wrapper).ranks > 1:
            raise PluginError(
                "diff3r.base_search_every works in one process: others would find other bases. Set it to 0."
            )
        with torch.inference_mode(False), torch.no_grad():
            weights = {n: w.detach() for n, w in refinement.weights.tensors().items() if isinstance(w, Tensor)}
            self._memory.append(
                _Remembered(
                    refinement.gaussians,
                    refinement.views,
                    self.context.adapter.target_views(
                        self.wrapper, call.batch, refinement.before, refinement.call
                    ).detach(),
                    weights,
                    None if refinement.confidence is None else refinement.confidence.detach(),
                    self.head.base_weights(),
                )
            )
            self._seen += 1
            if self._seen % self.context.settings.base_search_every == 0:
                self.search()

    @torch.no_grad()
    def search(self) -> dict[str, float]:
        """Try each group's base once larger and once smaller; keep what lowers the error on the remembered targets."""
        bases = self.head.base_weights()
        least = self._error(bases)
        for group in bases:
            for factor in FACTORS:
                tried = {**bases, group: factor * bases[group]}
                error = self._error(tried)
                if error < least:
                    least, bases = error, tried
        self.head.log_base.copy_(self.head.log_base.new_tensor([math.log(bases[group]) for group in self.head.groups]))
        return bases

    def _error(self, bases: Mapping[str, float]) -> float:
        """Mean squared error on the target views of all remembered scenes, refined with these bases."""
        errors = []
        for scene in self._memory:
            weights = ProximalWeights(**{n: w * (bases[n] / scene.bases[n]) for n, w in scene.weights.items()})
            refined, _ = self.layer(scene.gaussians, scene.context, weights, scene.confidence)
            rendered = render(refined, scene.target.replace(images=None), self.context.settings.tto.backend)
            errors.append(float((rendered - scene.target.given_images).square().mean()))
        return sum(errors) / len(errors)
