"""Adapter for the miniature host in ``examples/mini_host``: the shortest there can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diff3r_adapters.pixelsplat_family import MODEL_WRAPPER, PixelSplatFamily
from diff3r_plugin.plugin import Expectation, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_planesweep.py"


class MiniHost(PixelSplatFamily):
    """A small host of the pixelSplat family that ships with this project."""

    name = "mini_host"
    repository = "examples/mini_host of diff3r-plugin"
    fingerprints = (MODEL_WRAPPER, ENCODER)
    expectations = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER, "EncoderPlaneSweep.forward", ("context", "global_step"), "refining its output", ("Gaussians",)
        ),
    )
    tap = Tap(("to_gaussians",), "input", "(b v) c h w")

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        return Path(wrapper.test_cfg.output_path)


@hookimpl
def diff3r_adapters():
    """The adapter of this module."""
    return [MiniHost]
