"""Adapters for ZPressor: MVSplat, DepthSplat and pixelSplat that predict Gaussians for a few of many context views."""

from __future__ import annotations

from diff3r_adapters import depthsplat, mvsplat, pixelsplat
from diff3r_plugin.plugin import Expectation, HostAdapter, ViewChoice, hookimpl

REPOSITORY = "https://github.com/ziplab/ZPressor"
CENTERS = 1
"""Of what ZPressor's module returns: the features of the cluster centers, then which of the views those are."""

BACKBONE = "src/model/encoder/backbone/backbone_multiview.py"


def _variant(file: str, config: str) -> Expectation:
    return Expectation(file, config, ("use_cluster", "cluster_num"), "reading which views are cluster centers")


class ZPressorMVSplat(mvsplat.MVSplat):
    """github.com/ziplab/ZPressor, folder mvsplat; with ``use_cluster=false`` every view has Gaussians."""

    name = "zpressor_mvsplat"
    repository = REPOSITORY
    verified_commits: tuple[str, ...] = ()
    marks = (_variant(mvsplat.ENCODER, "EncoderCostVolumeCfg"),)
    expectations: tuple[Expectation, ...] = (
        *mvsplat.MVSplat.expectations,
        *marks,
        Expectation(BACKBONE, "BackboneMultiview.forward", ("cluster_num",), "reading which views are cluster centers"),
    )
    chosen_views = ViewChoice("backbone.zipmatch", CENTERS)


class ZPressorDepthSplat(depthsplat.DepthSplat):
    """github.com/ziplab/ZPressor, folder depthsplat; the number of centers may change from call to call."""

    name = "zpressor_depthsplat"
    repository = REPOSITORY
    verified_commits: tuple[str, ...] = ()
    marks = (_variant(depthsplat.ENCODER, "EncoderDepthSplatCfg"),)
    expectations: tuple[Expectation, ...] = (*depthsplat.DepthSplat.expectations, *marks)
    chosen_views = ViewChoice("depth_predictor.zipmatch", CENTERS)


class ZPressorPixelSplat(pixelsplat.PixelSplat):
    """github.com/ziplab/ZPressor, folder pixelsplat."""

    name = "zpressor_pixelsplat"
    repository = REPOSITORY
    verified_commits: tuple[str, ...] = ()
    marks = (_variant(pixelsplat.ENCODER, "EncoderEpipolarCfg"),)
    expectations: tuple[Expectation, ...] = (*pixelsplat.PixelSplat.expectations, *marks)
    chosen_views = ViewChoice("zipmatch", CENTERS)


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapters of this module."""
    return [ZPressorMVSplat, ZPressorDepthSplat, ZPressorPixelSplat]
