"""Adapter for MVSplat."""

from __future__ import annotations

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_costvolume.py"
DEPTH_PREDICTOR = "src/model/encoder/costvolume/depth_predictor_multiview.py"


class MVSplat(PixelSplatFamily):
    """github.com/donydchen/mvsplat: plane-sweep cost volumes, one Gaussian a pixel, e3nn harmonics of degree 4."""

    name = "mvsplat"
    repository = "https://github.com/donydchen/mvsplat"
    verified_commits: tuple[str, ...] = ("175b17a636a0",)
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER, DEPTH_PREDICTOR)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER, "EncoderCostVolume.forward", ("context", "global_step"), "refining its output", ("Gaussians",)
        ),
        # relatives that take images here (MonoSplat) lay their features out as (b v), and not as the tap says
        Expectation(
            DEPTH_PREDICTOR,
            "DepthPredictorMultiView.forward",
            ("features", "cnn_features"),
            "reading features for the head",
        ),
    )
    # what the last layer of the depth predictor sees: refined features, the image and the matching features
    tap: Tap | None = Tap(("depth_predictor.to_gaussians",), "input", "(v b) c h w")


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [MVSplat]
