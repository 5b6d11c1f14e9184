"""Adapter for the miniature host in ``examples/mini_host``: the shortest there can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diff3r_adapters.pixelsplat_family import MODEL_WRAPPER, PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_planesweep.py"


class MiniHost(PixelSplatFamily):
    """A small host of the pixelSplat family that ships with this project."""

    name = "mini_host"
    repository = "examples/mini_host of diff3r-plugin"
    fingerprints: tuple[str, ...] = (MODEL_WRAPPER, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER, "EncoderPlaneSweep.forward", ("context", "global_step"), "refining its output", ("Gaussians",)
        ),
    )
    tap: Tap | None = Tap(("to_gaussians",), "input", "(b v) c h w")

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        return Path(wrapper.test_cfg.output_path)


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [MiniHost]
