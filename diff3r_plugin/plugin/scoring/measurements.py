"""What is measured of one refined encoder call."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.info import Outcome
from diff3r_plugin.metrics import psnr
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

BEST_AGREEMENT = 120.0
"""dB at which two renderings count as equal."""


def fallen_back(refinement: Refinement) -> list[Outcome]:
    """Outcomes of the scenes that kept their initial Gaussians because something was wrong."""
    return [outcome for outcome in refinement.info.outcomes if outcome.fell_back]


def target_renderings(
    adapter: HostAdapter, wrapper: nn.Module, refinement: Refinement, batch: object
) -> tuple[Float[Tensor, "B V 3 H W"], Float[Tensor, "B V 3 H W"]]:
    """The target views as the host renders them, before and after refinement."""
    with torch.no_grad():
        return (
            adapter.render_targets(wrapper, refinement.before, batch, refinement.call),
            adapter.render_targets(wrapper, refinement.after, batch, refinement.call_after),
        )


def context_psnr(refinement: Refinement, backend: str) -> dict[str, Float[Tensor, " B"]]:
    """PSNR on the context before and after, by our renderer, each with its cameras; NaN for scenes without any."""
    scenes = {
        "before": (refinement.gaussians, refinement.views),
        "after": (refinement.refined, refinement.refined_views),
    }
    with torch.inference_mode(False), torch.no_grad():
        return {
            side: psnr(refinement.context_images, render(*scene, backend))
            .mean(-1)
            .masked_fill(refinement.without_poses, math.nan)
            for side, scene in scenes.items()
        }


def renderer_agreement(
    refinement: Refinement, targets: Views, before: Tensor, context: Tensor | None, backend: str
) -> Float[Tensor, " B"]:
    """PSNR of our renderings of the unrefined scene against the host's: do both mean the same scene?

    The least over the target views and, where the host can be asked for them, the context views, with the cameras that
    the host knows. What is best for our renderer is best for the host's only as far as they agree.

    Args:
        refinement: What was refined.
        targets: The target views.
        before: The target views as the host renders them, ``[B, V, 3, H, W]``.
        context: The context views as the host renders them, or None.
        backend: Our render backend.
    """
    with torch.inference_mode(False), torch.no_grad():
        pairs = [(before, targets)]
        if context is not None:
            pairs.append((context, refinement.views.replace(world_to_camera=refinement.host_cameras)))
        each = [psnr(theirs, render(refinement.gaussians, views, backend)).amin(-1) for theirs, views in pairs]
        return torch.stack(each).amin(0).clamp_max(BEST_AGREEMENT)


def solver_figures(refinement: Refinement) -> dict[str, float]:
    """What the solver reports, as means over the scenes of a batch."""
    info = refinement.info
    energy = info.energy.double()
    figures = {
        "seconds": refinement.seconds,
        "stationarity": _mean(info.stationarity),
        "energy_ratio": _mean(energy[-1] / energy[0].clamp_min(1e-30)),
        "accepted_steps": _mean(info.accepted_steps),
        "pcg_iterations": _mean(info.pcg_iterations),
        "pcg_relative_residual": _mean(info.pcg_relative_residual),
        "fallbacks": float(len(fallen_back(refinement))),
    }
    figures |= {name: _mean(values) for name, values in refinement.pose_figures().items()}
    if refinement.confidence is not None and refinement.untrusted is not None:
        per_view = refinement.confidence.detach().mean((2, 3))
        figures["confidence"] = _mean(per_view)
        figures["confidence_worst_view"] = _mean(per_view.amin(1))
        figures["without_confidence"] = float(refinement.untrusted.sum())
    for group, weight in refinement.weights.tensors().items():
        if group == "poses" and refinement.source.moves:
            weight = torch.as_tensor(weight)[:, 1:]  # the first view is held by a weight that nobody chose
        figures[f"weight_{group}"] = float(torch.as_tensor(weight).detach().double().log().mean().exp())
    return figures


def _mean(values: Tensor) -> float:
    values = values.detach().double()
    values = values[values.isfinite()]
    return float(values.mean()) if values.numel() else math.nan
