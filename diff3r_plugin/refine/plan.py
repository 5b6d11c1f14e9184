"""Whether a refinement fits into memory, before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from diff3r_plugin.memory import available_bytes, refinement_bytes, unknowns_per_gaussian
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.refine.split import largest_round

GIB = 1 << 30
USABLE = 0.8
"""Of what is free, where no limit is given."""


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Args:
        rounds: How many.
        views_per_round: Context views of the largest.
        needed: Bytes at the peak, estimated.
        limit: Bytes that may be used; None if unknown.
    """

    rounds: int
    views_per_round: int
    needed: int
    limit: int | None


def make_plan(inputs: Inputs, settings: RefineSettings, default_rounds: int) -> Plan:
    """Count rounds and memory.

    Args:
        inputs: What was read.
        settings: What was asked for.
        default_rounds: Where the settings name no number of rounds.

    Raises:
        RefineError: if it does not fit, with the numbers and the setting that makes it fit.
    """
    if settings.memory_gib is not None:
        limit: int | None = round(settings.memory_gib * GIB)
    else:
        free = available_bytes(settings.device)
        limit = None if free is None else round(USABLE * free)
    count, (height, width) = inputs.scene.num_gaussians, inputs.size
    unknowns = unknowns_per_gaussian(settings.tto.groups, inputs.scene.sh_degree)
    views = largest_round(len(inputs.context), settings.views_per_round)

    def needs(views: int, shrink: int = 1) -> int:
        return refinement_bytes(count, unknowns, views, (height // shrink, width // shrink))

    if limit is not None and needs(views) > limit:
        fewer = next((v for v in range(views - 1, 0, -1) if needs(v) <= limit), None)
        smaller = next((s for s in (2, 3, 4, 6, 8) if needs(1, s) <= limit), None)
        if fewer is not None:
            cure = f"--views-per-round {fewer} takes {needs(fewer) / GIB:.2f} GiB."
        elif smaller is not None:
            cure = (
                f"--views-per-round 1 --downscale {settings.downscale * smaller} takes {needs(1, smaller) / GIB:.2f} "
                "GiB."
            )
        else:
            cure = (
                "No number of views and no size of images changes that; move fewer --groups, give a scene of fewer "
                "Gaussians, or more --memory."
            )
        of_what = "" if settings.memory_gib is not None else f" ({USABLE:.0%} of what is free; --memory says otherwise)"
        raise RefineError(
            f"Refining {count} Gaussians (degree {inputs.scene.sh_degree}) on {views} images of {width} x {height} at "
            f"once takes about {needs(views) / GIB:.2f} GiB, and {limit / GIB:.2f} GiB may be used{of_what}. {cure}"
        )
    return Plan(settings.rounds or default_rounds, views, needs(views), limit)
