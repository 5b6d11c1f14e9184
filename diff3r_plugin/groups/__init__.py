"""The groups of unknowns: one record each, from which settings, weights, heads, solvers and products follow."""

from __future__ import annotations

from diff3r_plugin.groups.exposure import ExposureChart
from diff3r_plugin.groups.record import Group, ImageChart, LocalImages

__all__ = ["GROUPS", "Group", "ImageChart", "LocalImages"]

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("means", "gaussian", 3, rate=0.1, weight=0.01),
        Group("covariance", "gaussian", 6, rate=0.02, weight=0.01),
        Group("opacity", "gaussian", 1, rate=0.05, weight=0.01),
        Group("sh_dc", "gaussian", 3, rate=0.02, weight=0.1),
        Group("sh_rest", "gaussian", None, rate=0.005, weight=0.1),
        Group("poses", "view", 6, rate=0.002, weight=100.0, optimized=False),
        Group("exposure", "view", 6, rate=0.02, weight=1000.0, optimized=False, images=ExposureChart()),
    )
}
"""Every group by its name, in the order in which they stand in θ; those that act on images come last.

Rates and weights are our choice; the paper's initial values and activation are not known.
"""
