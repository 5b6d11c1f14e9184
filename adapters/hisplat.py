"""Adapter for HiSplat."""

from __future__ import annotations

from typing import Any

from torch import nn

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.plugin import Expectation, HostAdapter, hookimpl

ENCODER = "src/model/encoder/encoder_costvolume_pyramid.py"


class HiSplat(PixelSplatFamily):
    """github.com/Open3DVLab/HiSplat: Gaussians on three grids, each stage with those of the stages before it.

    The last stage holds them all, and is what is rendered at test; it is refined. The stages before it supervise the
    network directly, as without the plugin.
    """

    name = "hisplat"
    repository = "https://github.com/Open3DVLab/HiSplat"
    verified_commits: tuple[str, ...] = ("1d08e76998825",)
    scale_invariant = False
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER, "EncoderCostVolumePyramid.forward", ("context", "global_step"), "refining it", ("tuple of 2",)
        ),
    )

    def alignment(self, encoder: nn.Module) -> tuple[PixelGrid, ...]:
        config: Any = encoder.cfg
        per_pixel = int(config.gaussians_per_pixel) * int(config.num_surfaces)
        return tuple(PixelGrid(stride, per_pixel) for stride in (4, 2, 1))

    def scene(self, output: Any) -> Any:
        stages, _ = output
        return stages[_last(stages)]["gaussians"]

    def with_scene(self, output: Any, scene: Any) -> Any:
        stages, others = output
        name = _last(stages)
        return {**stages, name: {**stages[name], "gaussians": scene}}, others


def _last(stages: dict[str, Any]) -> str:
    return f"stage{len(stages) - 1}"


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [HiSplat]
