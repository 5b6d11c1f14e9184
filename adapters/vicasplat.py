"""Adapter for VicaSplat."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import (
    PixelSplatFamily,
    scaled_intrinsics,
    symmetric_intrinsics,
    world_to_camera,
)
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, hookimpl

ENCODER = "src/model/encoder/vicasplat.py"
POSES, INTRINSICS = "gaussian_camera_extrins", "gaussian_camera_intrins"


class VicaSplat(PixelSplatFamily):
    """github.com/WU-CVGL/VicaSplat: a video's frames to Gaussians and to their cameras, in the first frame's.

    The output is a dictionary. Its Gaussians lie in maps (view, row, column); target views are rendered with the
    cameras of the data, by the family's rasterizer or by gsplat (``model.decoder.use_gsplat``).
    """

    name = "vicasplat"
    repository = "https://github.com/WU-CVGL/VicaSplat"
    encoder_sees_poses = False
    predicts_poses = True
    along_rays = False  # the network predicts points
    e3nn_harmonics = False
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(ENCODER, "VicaSplat.forward", ("context", "global_step", "distill"), "refining it", ("dict",)),
    )

    def refinable(self, output: Any) -> bool:
        return "gaussians" in output  # it predicts cameras and points alone while it distills

    def context_images(self, context: Any) -> Tensor:
        return context["image"] * 0.5 + 0.5  # its data shim normalizes the context alone

    def scene(self, output: Any) -> Any:
        """The Gaussians in a row, and without the axis that opacities may have."""
        scene = output["gaussians"]
        flat = {name: _in_a_row(getattr(scene, name), length) for name, length in LENGTHS.items()}
        return dataclasses.replace(scene, **flat)

    def with_scene(self, output: Any, scene: Any) -> Any:
        given = output["gaussians"]
        shaped = {name: getattr(scene, name).reshape(getattr(given, name).shape) for name in LENGTHS}
        return {**output, "gaussians": dataclasses.replace(given, **shaped)}

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        changed = super().with_gaussians(output, refined)
        return changed if cameras is None else {**changed, POSES: world_to_camera(cameras).to(output[POSES])}

    def attached(self, wrapper: Any) -> None:
        self.evaluated = 25 if wrapper.decoder.cfg.use_gsplat else 16

    def pixel_intrinsics(self, wrapper: Any, normalized: Tensor, height: int, width: int) -> Tensor:
        read = scaled_intrinsics if wrapper.decoder.cfg.use_gsplat else symmetric_intrinsics
        return read(normalized, height, width)

    def near_plane(self, wrapper: Any, near: Tensor) -> Tensor:
        return near if wrapper.decoder.cfg.use_gsplat else super().near_plane(wrapper, near)

    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        return super().context_views(wrapper, _placed(context, output), output)

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return self.rendered(wrapper, output, _placed(batch["context"], output))

    def given_poses(self, wrapper: nn.Module, context: Any) -> Tensor | None:
        return world_to_camera(context["extrinsics"]) if "extrinsics" in context else None

    def target_views(self, wrapper: nn.Module, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        target = {**batch["target"], "image": 2 * batch["target"]["image"] - 1}
        return super().context_views(wrapper, target, output)


def _placed(context: Any, output: Any) -> dict[str, Any]:
    """The context with the cameras that the host predicts."""
    intrinsics = context["intrinsics"] if output[INTRINSICS] is None else output[INTRINSICS]
    return {**context, "extrinsics": output[POSES], "intrinsics": intrinsics}


LENGTHS = {"means": 1, "covariances": 2, "harmonics": 2, "opacities": 0}
"""Axes of each Gaussian's own."""


def _in_a_row(value: Tensor, axes: int) -> Tensor:
    if axes == 0 and value.ndim == 5:
        value = value[..., 0]
    return value.flatten(1, value.ndim - axes - 1) if value.ndim > axes + 2 else value


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [VicaSplat]
