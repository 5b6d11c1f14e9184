"""Whether a refinement fits into memory, before it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diff3r_plugin.memory import USABLE, available_bytes, largest_scene, refinement_bytes, unknowns_per_gaussian
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.rounds import Schedule
from diff3r_plugin.refine.settings import RefineError, RefineSettings
from diff3r_plugin.refine.split import largest_round

GIB = 1 << 30


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Args:
        schedule: What the rounds do.
        views_per_round: Context views of the largest.
        needed: Bytes at the peak, estimated.
        limit: Bytes that may be used; None if unknown.
    """

    schedule: Schedule
    views_per_round: int
    needed: int
    limit: int | None


def make_plan(inputs: Inputs, settings: RefineSettings, schedule: Schedule) -> Plan:
    """Count memory. A scene that grows by itself grows to what fits; one that was told how far to grow has to fit.

    Args:
        inputs: What was read.
        settings: What was asked for.
        schedule: What the rounds do.

    Raises:
        RefineError: if it does not fit, with the numbers and the setting that makes it fit.
    """
    if settings.memory_gib is not None:
        limit: int | None = round(settings.memory_gib * GIB)
    else:
        free = available_bytes(settings.device)
        limit = None if free is None else round(USABLE * free)
    height, width = inputs.size
    unknowns = unknowns_per_gaussian(settings.tto.groups, inputs.scene.sh_degree)
    views = largest_round(len(schedule.fitted), settings.views_per_round)
    if limit is not None and settings.max_gaussians is None:
        fitting = largest_scene(limit, unknowns, views, inputs.size, settings.device)
        schedule = replace(schedule, gaussians=max(inputs.scene.num_gaussians, min(schedule.gaussians, fitting)))
    count = schedule.gaussians

    def needs(views: int, shrink: int = 1) -> int:
        return refinement_bytes(count, unknowns, views, (height // shrink, width // shrink), settings.device)

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
                "Gaussians (or a smaller --max-gaussians), or more --memory."
            )
        of_what = "" if settings.memory_gib is not None else f" ({USABLE:.0%} of what is free; --memory says otherwise)"
        raise RefineError(
            f"Refining {count} Gaussians (degree {inputs.scene.sh_degree}) on {views} images of {width} x {height} at "
            f"once takes about {needs(views) / GIB:.2f} GiB, and {limit / GIB:.2f} GiB may be used{of_what}. {cure}"
        )
    return Plan(schedule, views, needs(views), limit)
