"""Metrics for the host's logger; what goes wrong, said now and then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from diff3r_plugin.metrics import psnr
from diff3r_plugin.plugin.head_training.head_state import HeadState
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.refining.step import Step
from diff3r_plugin.plugin.scoring.host_evaluation import HostTest
from diff3r_plugin.plugin.scoring.image_logging import ImageLogging
from diff3r_plugin.plugin.scoring.measurements import context_psnr, fallen_back, solver_figures, target_renderings

WARN_EVERY = 1000
"""Training steps between two warnings that the inner problem is not solved well enough."""


class Reporter:
    """Reports what refinement did to one model of a host.

    Args:
        wrapper: The host's LightningModule, whose logger is used.
        context: Settings, adapter and host configuration of this run.
        head: The uncertainty head, of whose training is told.
        refiner: What refined the scenes.
    """

    def __init__(self, wrapper: Any, context: RunContext, head: HeadState, refiner: Refiner) -> None:
        self.wrapper, self.context, self.head = wrapper, context, head
        self.images = ImageLogging(wrapper, context)
        self.test = HostTest(wrapper, context, head, refiner)
        self.fallbacks = 0
        self._next_warning = 0

    def report(self, step: Step) -> None:
        """At the end of a host's step: metrics to the host's logger, scores of a test to its record."""
        if not step.calls:
            return
        with_psnr = step.stage == "val" or loop_of(self.wrapper).step % self.context.settings.log_every == 0
        of_calls = []
        for call in step.calls:
            self._count_fallbacks(call.refinement, call.batch)
            figures = solver_figures(call.refinement)
            if step.stage == "test":
                figures |= self.test.add(call.refinement, call.batch, step.drawn if len(step.calls) == 1 else [])
            elif with_psnr:
                figures |= self._psnr(call.refinement, call.batch)
                if step.stage == "val":
                    self.images.log(call)
            of_calls.append(figures)
        if step.stage == "test":
            self.test.end_of_step()
        figures = _means(of_calls)
        if step.stage == "train":
            self._warn_if_not_stationary(figures["stationarity"])
            figures["fallbacks_total"] = float(self.fallbacks)
            if self.head.optimizer is not None:
                figures["head_lr"] = self.head.optimizer.learning_rate
                figures["head_steps_skipped"] = float(self.head.optimizer.skipped)
        self._log(figures, step.stage, scenes=len(step.calls[0].refinement.info.outcomes))

    def leaves_out(self, batch: Any) -> bool:
        """At the beginning of a step of a host's test: whether its scenes have scores already."""
        if "test" not in self.context.settings.refine:
            return False
        self.test.begin()
        return self.test.leaves_out(batch)

    def finish_test(self) -> None:
        """At the end of a host's test: the scores file and the table."""
        self.test.finish()

    def _log(self, figures: Mapping[str, float], stage: str, scenes: int) -> None:
        prefix = "diff3r/" if stage == "train" else f"diff3r/{stage}/"
        known = {prefix + name: value for name, value in figures.items() if math.isfinite(value)}
        loop_of(self.wrapper).log(known, stage, scenes)

    def _psnr(self, refinement: Refinement, batch: Any) -> dict[str, float]:
        """Mean PSNR before and after: on the context with our renderer, on the target with the host's."""
        adapter = self.context.adapter
        scores = {
            f"psnr_context_{side}": value
            for side, value in context_psnr(refinement, self.context.settings.tto.backend).items()
        }
        renderings = target_renderings(adapter, self.wrapper, refinement, batch)
        with torch.no_grad():
            truth = adapter.target_images(batch)
            for side, rendering in zip(("before", "after"), renderings, strict=True):
                scores[f"psnr_target_{side}"] = psnr(truth, rendering).mean(-1)
        return {name: float(value.nanmean()) for name, value in scores.items()}

    def _count_fallbacks(self, refinement: Refinement, batch: Any) -> None:
        fallen = fallen_back(refinement)
        if not fallen:
            return
        self.fallbacks += len(fallen)
        if self.fallbacks <= 3 or self.fallbacks % 100 == 0:
            names = ", ".join(sorted({str(outcome) for outcome in fallen}))
            if refinement.poses is not None:
                names = "; ".join([names, *filter(None, refinement.poses.failures)])
            self.context.say(
                f"{self.fallbacks} scene(s) so far kept their initial Gaussians; now: {names} in "
                f"{', '.join(self.context.adapter.scene_names(batch))}"
            )

    def _warn_if_not_stationary(self, stationarity: float) -> None:
        tto, step = self.context.settings.tto, loop_of(self.wrapper).step
        limit = tto.stationarity_warning
        if tto.backward_mode != "implicit" or limit is None or not stationarity > limit or step < self._next_warning:
            return
        self._next_warning = step + WARN_EVERY
        self.context.say(
            f"step {step}: the gradient of the energy is still {stationarity:.2g} of its start where the implicit "
            f"gradient is taken (limit {limit:g}); it may be wrong, even in sign. Raise diff3r.inner_steps or "
            "diff3r.inner_pcg_iterations, or the weights; diff3r/stationarity is logged. Next such line after "
            f"{WARN_EVERY} steps."
        )


def _means(of_calls: list[dict[str, float]]) -> dict[str, float]:
    """Means over the encoder calls of a step; their seconds are added."""
    means = {name: sum(figures[name] for figures in of_calls) / len(of_calls) for name in of_calls[0]}
    return means | {"seconds": sum(figures["seconds"] for figures in of_calls)}
