"""Feature rendering, which has no stand-in: a host that is configured for it is told so."""

from __future__ import annotations

from typing import Any


class FeatureDetachGaussianRasterizationSettings:
    def __init__(self, **_settings: Any) -> None:
        raise NotImplementedError("the stand-in for C3G's rasterizers renders no features")


FeatureDetachGaussianRasterizer = FeatureDetachGaussianRasterizationSettings
