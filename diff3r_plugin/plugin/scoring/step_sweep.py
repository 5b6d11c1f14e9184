"""The same scenes refined with other numbers of steps, in one test."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.scoring.image_metrics import ImageMetrics
from diff3r_plugin.plugin.scoring.measurements import context_psnr


def swept(
    refiner: Refiner,
    refinement: Refinement,
    wrapper: nn.Module,
    batch: Any,
    truth: Tensor,
    metrics: ImageMetrics,
) -> list[list[dict[str, Any]]]:
    """For each scene of a batch and each of ``diff3r.eval_steps``: the number, scores, seconds, energy and outcome."""
    settings = refiner.settings
    scenes: list[list[dict[str, Any]]] = [[] for _ in range(len(truth))]
    for steps in settings.eval_steps:
        started = time.perf_counter()
        with torch.inference_mode(False), torch.no_grad():
            again = refiner.again(refinement, steps)
        seconds = time.perf_counter() - started
        scores = _scores(refiner.adapter, wrapper, again, batch, truth, metrics, settings.tto.backend)
        for index, entries in enumerate(scenes):
            entries.append(
                {
                    "steps": steps,
                    **{name: float(values[index]) for name, values in scores.items()},
                    "seconds": seconds / len(scenes),
                    "energy": float(again.info.energy[-1, index]),
                    "outcome": str(again.info.outcomes[index]),
                }
            )
    return scenes


def _scores(
    adapter: HostAdapter,
    wrapper: nn.Module,
    again: Refinement,
    batch: Any,
    truth: Tensor,
    metrics: ImageMetrics,
    backend: str,
) -> dict[str, Tensor]:
    with torch.no_grad():
        rendered = adapter.render_targets(wrapper, again.after, batch, again.call_after)
    return {**metrics(truth, rendered), "psnr_context": context_psnr(again, backend)["after"]}
