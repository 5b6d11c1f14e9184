"""Adapter for AnySplat."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import MODEL_WRAPPER, PixelSplatFamily, scaled_intrinsics, world_to_camera
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, hookimpl
from diff3r_plugin.training.similarity import in_frame_of

ENCODER = "src/model/encoder/anysplat.py"
OUTPUT = "src/model/encoder/encoder.py"
NEAR = 1e-6  # gsplat renders everything in front of the camera there


class AnySplat(PixelSplatFamily):
    """github.com/InternRobotics/AnySplat: images alone to Gaussians in voxels and to all cameras.

    The model lies in ``wrapper.model``; its encoder is given images, not a context. Its renderer is gsplat's with
    covariances, harmonics of degree 4 and the principal points as they are. Entries of opacity 0 are padding.

    Its own loss looks at the context views, which the refinement fits: training with the flag runs, but teaches little.
    """

    name = "anysplat"
    repository = "https://github.com/InternRobotics/AnySplat"
    encoder_sees_poses = False
    predicts_poses = True
    along_rays = False
    e3nn_harmonics = False
    evaluated = 25
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER, "src/model/model/anysplat.py")
    expectations: tuple[Expectation, ...] = (
        PixelSplatFamily.expectations[0],
        Expectation(MODEL_WRAPPER, "ModelWrapper.__init__", ("model", "losses"), "attaching the head"),
        *PixelSplatFamily.expectations[2:],
        Expectation(ENCODER, "EncoderAnySplat.forward", ("image", "global_step"), "refining its output"),
        Expectation(OUTPUT, "EncoderOutput", ("gaussians", "pred_context_pose"), "reading scene and cameras"),
    )

    def encoder(self, wrapper: Any) -> nn.Module:
        return wrapper.model.encoder

    def alignment(self, encoder: nn.Module) -> None:
        return None

    def context_of(self, call: Call) -> Any:
        return call.arguments[0] if call.arguments else call.named["image"]

    # ---------------------------------------------------------------- the scene

    def scene(self, output: Any) -> Any:
        return output.gaussians

    def with_scene(self, output: Any, scene: Any) -> Any:
        return dataclasses.replace(output, gaussians=scene)

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        changed = super().with_gaussians(output, refined)
        if cameras is None:
            return changed
        poses = output.pred_context_pose
        moved = {**poses, "extrinsic": world_to_camera(cameras).to(poses["extrinsic"])}
        return dataclasses.replace(changed, pred_context_pose=moved)

    # ---------------------------------------------------------------- cameras and images

    def context_images(self, context: Tensor) -> Tensor:
        """In [0, 1]; its validation hands the encoder images in [-1, 1], where those are expected."""
        return context if context.min() >= -1e-3 else context * 0.5 + 0.5

    def context_views(self, wrapper: Any, context: Tensor, output: Any, call: Call = NO_CALL) -> Views:
        poses = output.pred_context_pose
        return self._views(wrapper, poses["extrinsic"], poses["intrinsic"], self.context_images(context))

    def _views(self, wrapper: Any, extrinsics: Tensor, intrinsics: Tensor, images: Tensor) -> Views:
        pixels = scaled_intrinsics(intrinsics, *images.shape[-2:])
        background = wrapper.model.decoder.background_color
        return Views(world_to_camera(extrinsics), pixels, images, near=NEAR, background=background)

    def given_poses(self, wrapper: Any, context: Tensor) -> Tensor | None:
        return None  # the encoder is not given any

    def target_views(self, wrapper: Any, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        """Those of the data, placed among the predicted cameras."""
        target = batch["target"]
        views = self._views(wrapper, target["extrinsics"], target["intrinsics"], target["image"])
        predicted = world_to_camera(output.pred_context_pose["extrinsic"])
        return in_frame_of(predicted, world_to_camera(batch["context"]["extrinsics"]), views).replace(near=views.near)

    def rendered(self, wrapper: Any, output: Any, cameras: Views) -> Tensor:
        extrinsics = world_to_camera(cameras.world_to_camera)  # its own inverse: camera to world again
        size = cameras.intrinsics.new_tensor([cameras.image_size[1], cameras.image_size[0], 1.0])[:, None]
        ends = (cameras.near, cameras.far, cameras.image_size)
        return wrapper.model.decoder.forward(output.gaussians, extrinsics, cameras.intrinsics / size, *ends).color

    def render_targets(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return self.rendered(wrapper, output, self.target_views(wrapper, batch, output))

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return self.rendered(wrapper, output, self.context_views(wrapper, batch["context"]["image"], output))


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [AnySplat]
