"""Adapter for EcoSplat."""

from __future__ import annotations

from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import DECODER, MODEL_WRAPPER, PixelSplatFamily, scaled_intrinsics
from diff3r_adapters.spfsplat import SPFSplat
from diff3r_plugin.plugin import Expectation, HostAdapter, hookimpl
from diff3r_plugin.plugin.host.feature_tap import Tap

ENCODER = "src/model/encoder/encoder_ecosplat.py"
NEAR = 1e-6
"""gsplat renders everything in front of the camera there."""


class EcoSplat(SPFSplat):
    """github.com/KAIST-VICLab/EcoSplat: SPFSplat that keeps the Gaussians it needs; what is public tests and validates.

    Those that are kept stand on no grid, in an order of their opacity. The rasterizer is gsplat's.
    """

    name = "ecosplat"
    repository = "https://github.com/KAIST-VICLab/EcoSplat"
    verified_commits: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        SPFSplat.expectations[0],
        Expectation(MODEL_WRAPPER, "ModelWrapper.validation_step", ("batch", "batch_idx"), "refining in validation"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.test_step", ("batch", "batch_idx"), "refining at test"),
        next(e for e in PixelSplatFamily.expectations if e.file == DECODER),
        Expectation(ENCODER, "EncoderEcoSplat.forward", ("context", "global_step", "target"), "refining", ("dict",)),
    )
    evaluated = 25
    tap: Tap | None = None  # its heads run once for all views but the first

    def alignment(self, encoder: nn.Module) -> None:
        return None

    def pixel_intrinsics(self, wrapper: nn.Module, normalized: Tensor, height: int, width: int) -> Tensor:
        return scaled_intrinsics(normalized, height, width)

    def near_plane(self, wrapper: nn.Module, near: Tensor) -> Tensor:
        return near.new_full(near.shape, NEAR)


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [EcoSplat]
