"""What the page shows of one scene: images, maps on shared color scales, its figures, the scene itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from diff3r_plugin.report.color_scale import ColorScale, described
from diff3r_plugin.report.run_figures import relative, sparkline
from diff3r_plugin.report.run_folder import SceneRecord
from diff3r_plugin.report.scene_images import Pixels, SceneImages
from diff3r_plugin.report.splat_data import SplatData


@dataclass(frozen=True)
class Scales:
    """The color scales that all scenes of a page share.

    Args:
        error: Of the absolute error.
        change: Of its change by the refinement.
        weights: Of the proximal weights, per group.
        confidence: Of the confidence: always 0 to 1.
    """

    error: ColorScale
    change: ColorScale
    weights: Mapping[str, ColorScale]
    confidence: ColorScale

    @classmethod
    def of(cls, scenes: list[SceneImages], views: int) -> Scales:
        """Ranges over everything that is shown."""
        errors = [e for s in scenes for v in spread(len(s.after), views) for e in s.errors(v)]
        groups = list(dict.fromkeys(group for scene in scenes for group in scene.weights))
        weights = {g: ColorScale.of_weights([s.weights[g] for s in scenes if g in s.weights]) for g in groups}
        error = ColorScale.of_errors(errors)
        change = ColorScale(-error.high, error.high, colormap="RdBu_r")
        return cls(error, change, weights, ColorScale(0.0, 1.0, colormap="gray"))


@dataclass(frozen=True)
class ShownMap:
    """A map as an image.

    Args:
        source: ``data:`` URL.
        title: What it shows.
        values: Its range in words.
    """

    source: str
    title: str
    values: str


@dataclass(frozen=True)
class ShownView:
    """One target view: ``data:`` URLs of images and of errors on the page's scales; PSNR (of the 8-bit images), dB."""

    number: int
    truth: str
    before: str
    after: str
    change: str
    error_before: str
    error_after: str
    psnr_before: float
    psnr_after: float


@dataclass(frozen=True)
class ShownScene:
    """All that the page shows of one scene.

    Args:
        record: Its scores.
        width: Of its images, px.
        height: Of its images, px.
        views: Some of its target views.
        target_count: How many there are.
        context: ``data:`` URLs of the context images.
        confidence: Confidence maps, one per context view.
        weights: Weight maps of the first context view.
        sparkline: Its energy, as points of an SVG polyline; "" where unknown.
        energy_left: Energy at the end as a share of that at the start; NaN where unknown.
        splats: The scene itself, before and after; None where it was not written or not asked for.
    """

    record: SceneRecord
    width: int
    height: int
    views: list[ShownView]
    target_count: int
    context: list[str]
    confidence: list[ShownMap]
    weights: list[ShownMap]
    sparkline: str
    energy_left: float
    splats: SplatData | None

    @classmethod
    def of(cls, record: SceneRecord, images: SceneImages, scales: Scales, views: int, interactive: bool) -> ShownScene:
        """Of a scene with at least one target view.

        Args:
            record: Its scores.
            images: What there is to see of it.
            scales: The page's color scales.
            views: How many target views to show.
            interactive: Whether the scene itself goes into the page.
        """
        height, width, _ = images.after[0].shape
        confidence = [] if images.confidence is None else list(images.confidence)
        curve = relative(record.energy)
        splats = None
        if interactive and images.gaussians is not None and images.camera is not None:
            splats = SplatData.of(*images.gaussians, images.camera)
        return cls(
            record=record,
            width=width,
            height=height,
            views=[_view(images, view, scales) for view in spread(len(images.after), views)],
            target_count=len(images.after),
            context=[data_url(image) for image in images.context],
            confidence=[
                ShownMap(data_url(scales.confidence.colors(values)), f"context {number + 1}", described(values))
                for number, values in enumerate(confidence)
            ],
            weights=[
                ShownMap(data_url(scales.weights[group].colors(maps[0])), group, described(maps[0]))
                for group, maps in images.weights.items()
            ],
            sparkline=sparkline(record.energy),
            energy_left=curve[-1] if curve else math.nan,
            splats=splats,
        )


def spread(count: int, wanted: int) -> list[int]:
    """``wanted`` of ``count`` indices, evenly spread, both ends among them; the middle one where one is wanted.

    Example:
        >>> from diff3r_plugin.report.shown_scene import spread
        >>> spread(9, 3), spread(9, 1), spread(2, 5)
        ([0, 4, 8], [4], [0, 1])
    """
    wanted = min(wanted, count)
    if wanted <= 1:
        return [count // 2][: max(wanted, 0)]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def data_url(pixels: Pixels) -> str:
    """8-bit colors as PNG in a ``data:`` URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _view(images: SceneImages, view: int, scales: Scales) -> ShownView:
    error_before, error_after = images.errors(view)
    truth, before, after = images.truth[view], images.before[view], images.after[view]
    return ShownView(
        number=view + 1,
        truth=data_url(truth),
        before=data_url(before),
        after=data_url(after),
        change=data_url(scales.change.colors(error_after - error_before)),
        error_before=data_url(scales.error.colors(error_before)),
        error_after=data_url(scales.error.colors(error_after)),
        psnr_before=_psnr(truth, before),
        psnr_after=_psnr(truth, after),
    )


def _psnr(truth: Pixels, image: Pixels) -> float:
    error = float(((truth.astype(np.float64) - image) / 255).__pow__(2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)
