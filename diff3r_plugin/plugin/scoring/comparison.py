"""The customary test-time optimization on the scenes of a test, beside ours (``diff3r.compare``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diff3r_plugin.optimize.customary import CustomaryTTO
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.scoring.image_metrics import ImageMetrics
from diff3r_plugin.plugin.scoring.measurements import context_psnr


def compared(
    refiner: Refiner,
    refinement: Refinement,
    wrapper: nn.Module,
    batch: Any,
    truth: Tensor,
    metrics: ImageMetrics,
) -> list[list[dict[str, Any]]]:
    """For each scene of a batch: the method, its number of steps, scores on the targets, seconds; a row each.

    From the very prediction that ours starts from, on the very context views: with their predicted or estimated poses,
    which the customary optimization does not move, and without weights, for it has none. Seconds are those up to
    the step, without scoring. Scenes without poses are not optimized; their scores are those of the prediction.
    """
    settings = refiner.settings
    scenes: list[list[dict[str, Any]]] = [[] for _ in range(len(truth))]
    if settings.compare == "off":
        return scenes
    views = refinement.views
    method = CustomaryTTO(steps=settings.compare_steps, backend=settings.tto.backend)
    with torch.inference_mode(False), torch.no_grad():
        for state in method.run(refinement.gaussians, views):
            covariances = refinement.gaussians.covariances is not None
            scene = state.gaussians.with_covariances() if covariances else state.gaussians
            lost = refinement.without_poses
            if lost.any():
                scene = _kept(scene, refinement, lost)
            again = refiner.with_scene(refinement, scene)
            rendered = refiner.adapter.render_targets(wrapper, again.after, batch, again.call_after)
            on_context = context_psnr(again, settings.tto.backend)["after"]
            scores = {**metrics(truth, rendered), "psnr_context": on_context}
            for index, rows in enumerate(scenes):
                rows.append(
                    {
                        "method": settings.compare,
                        "steps": state.steps,
                        **{name: float(values[index]) for name, values in scores.items()},
                        "seconds": state.seconds / len(scenes),
                    }
                )
    return scenes


def _kept(scene: Any, refinement: Refinement, lost: Tensor) -> Any:
    """The prediction where nothing could be optimized."""
    fields = {}
    for name in ("means", "covariances", "opacities", "harmonics", "scales", "quats"):
        now, before = getattr(scene, name), getattr(refinement.gaussians, name)
        fields[name] = None if now is None else torch.where(lost.reshape(-1, *[1] * (now.ndim - 1)), before, now)
    return type(scene)(**fields)
