"""Adapter for TransPlat."""

from __future__ import annotations

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_trans.py"


class TransPlat(PixelSplatFamily):
    """github.com/xingyoujun/transplat: MVSplat's shape with depth-aware attention; runs without type checks."""

    name = "transplat"
    repository = "https://github.com/xingyoujun/transplat"
    verified_commits: tuple[str, ...] = ("aaa29a40f967",)
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(ENCODER, "EncoderTrans.forward", ("context", "global_step"), "refining its output", ("Gaussians",)),
    )
    tap: Tap | None = Tap(("depth_predictor.to_gaussians",), "input", "(v b) c h w")


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [TransPlat]
