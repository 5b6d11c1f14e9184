"""Adapter for pixelSplat."""

from __future__ import annotations

from typing import Any

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_epipolar.py"


class PixelSplat(PixelSplatFamily):
    """github.com/dcharatan/pixelsplat: several sampled depths a pixel, one opacity and harmonics for each sample."""

    name = "pixelsplat"
    repository = "https://github.com/dcharatan/pixelsplat"
    verified_commits: tuple[str, ...] = ("32b1b662bbba",)
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER,
            "EncoderEpipolar.forward",
            ("context", "global_step", "deterministic"),
            "refining it",
            ("Gaussians",),
        ),
    )
    # features after epipolar attention and the high-resolution skip, as a list of rays
    tap: Tap | None = Tap(("to_gaussians",), "input", "b v (h w) c")

    def gaussians_per_pixel(self, encoder: Any) -> int:
        return int(encoder.cfg.gaussians_per_pixel) * int(encoder.cfg.num_surfaces)


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [PixelSplat]
