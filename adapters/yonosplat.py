"""Adapter for YoNoSplat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import MODEL_WRAPPER, PixelSplatFamily, scaled_intrinsics, world_to_camera
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, hookimpl

ENCODER = "src/model/encoder/encoder_yonosplat.py"
GSPLAT_DECODER = "src/model/decoder/decoder_splatting_gsplat.py"
PRUNING = "src/model/decoder/prune.py"
NEAR = 0.01  # gsplat's own; the decoder does not pass the data's on
DUMP = "visualization_dump"


class YoNoSplat(PixelSplatFamily):
    """github.com/cvg/YoNoSplat: pixel-aligned Gaussians and cameras from images, in the frame of the first one.

    The cameras lie in a dictionary that the caller hands in (``visualization_dump``). Points are placed by them or, by
    chance in training and always without ``pose_free``, by the data's poses. Its decoders drop what is nearly
    transparent at test; in training they drop at random, which nobody else can know.
    """

    name = "yonosplat"
    repository = "https://github.com/cvg/YoNoSplat"
    verified_commits = ("8bbbfa8",)
    encoder_sees_poses = False
    predicts_poses = True
    along_rays = False  # the network predicts points
    e3nn_harmonics = False
    mutable = (DUMP,)
    fingerprints = (*PixelSplatFamily.fingerprints, ENCODER, GSPLAT_DECODER)
    expectations = (
        *PixelSplatFamily.expectations,
        Expectation(ENCODER, "EncoderYoNoSplat.forward", ("context", "global_step", DUMP), "refining", ("Gaussians",)),
        Expectation(GSPLAT_DECODER, "DecoderSplattingGSPlat.forward", ("gaussians", "extrinsics"), "rendering"),
        Expectation(PRUNING, "prune_gaussians", ("opacity_threshold", "inference"), "knowing what it drops"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.test_step_align", ("batch", "gaussians"), "target poses at test"),
    )

    def encoder(self, wrapper: Any) -> nn.Module:
        self.by_gsplat = "GSPlat" in type(wrapper.decoder).__name__
        self.evaluated = 25 if self.by_gsplat else 16
        return super().encoder(wrapper)

    by_gsplat = False

    # ---------------------------------------------------------------- cameras

    def poses_source(self, call: Call) -> str | None:
        dump = call.argument(DUMP)
        placed = dump["local_pts"] @ dump["pred_camera_poses"][:, :, None, None, :3, :3].mT
        placed = placed + dump["pred_camera_poses"][:, :, None, None, None, :3, 3]
        means = dump["means"].reshape(placed.shape)
        return "predicted" if torch.allclose(placed, means.to(placed), rtol=1e-3, atol=1e-4) else "batch"

    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        return super().context_views(wrapper, {**context, "extrinsics": call.argument(DUMP)["c2w"]}, output)

    def given_poses(self, wrapper: nn.Module, context: Any) -> Tensor | None:
        return world_to_camera(context["extrinsics"])

    def target_views(self, wrapper: nn.Module, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        return super().context_views(wrapper, batch["target"], output)

    def pixel_intrinsics(self, wrapper: Any, normalized: Tensor, height: int, width: int) -> Tensor:
        if self.by_gsplat:
            return scaled_intrinsics(normalized, height, width)
        return super().pixel_intrinsics(wrapper, normalized, height, width)

    def near_plane(self, wrapper: Any, near: Tensor) -> Tensor:
        return torch.full_like(near, NEAR) if self.by_gsplat else super().near_plane(wrapper, near)

    # ---------------------------------------------------------------- the scene

    def visible(self, call: Call, gaussians: Gaussians) -> Tensor | None:
        decoder = call.wrapper.decoder
        if decoder.training or not decoder.cfg.prune_opacity_threshold:
            return None
        return gaussians.opacities > decoder.cfg.prune_opacity_threshold

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        if cameras is not None:
            dump = call.argument(DUMP)
            moved = world_to_camera(cameras).to(dump["c2w"])
            dump |= {"c2w": moved, "pred_camera_poses": moved}  # its losses and its own optimizations read these
        return super().with_gaussians(output, refined)

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return self.rendered(wrapper, output, {**batch["context"], "extrinsics": call.argument(DUMP)["c2w"]})


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [YoNoSplat]
