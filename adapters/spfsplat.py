"""Adapter for SPFSplat and SPFSplatV2."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import PixelSplatFamily, world_to_camera
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_spfsplat.py"
VGGT_TAP = Tap(("gaussian_param_head.scratch.output_conv2",), "input", "(b v) c h w")


class SPFSplat(PixelSplatFamily):
    """github.com/ranrhuang/SPFSplat: predicts the poses of context and target views along with the Gaussians.

    The encoder's output holds them under "c" (from the context alone) and, where it was given target images, "cwt"
    (from both), which the host renders with. At test the encoder is called once for each target view. The rasterizer
    is given scales and rotations (wxyz); the covariances of the host's dataclass are never rendered.
    """

    name = "spfsplat"
    repository = "https://github.com/ranrhuang/SPFSplat"
    verified_commits: tuple[str, ...] = ("15e158d8c473", "50861edb8cce")
    encoder_sees_poses = False
    along_rays = False  # the network predicts points
    predicts_poses = True
    e3nn_harmonics = False
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        Expectation(
            "src/model/types.py",
            "Gaussians",
            ("means", "covariances", "harmonics", "opacities", "scales", "rotations"),
            "the scene",
        ),
        *PixelSplatFamily.expectations[1:],
        Expectation(ENCODER, "EncoderSPFSplat.forward", ("context", "global_step", "target"), "refining", ("dict",)),
    )
    # One head for the first view and one for the others; before the last convolution and its dropout.
    tap: Tap | None = Tap(("gaussian_param_head.dpt.head.0", "gaussian_param_head2.dpt.head.0"), "input", "b c h w")

    def tap_of(self, encoder: nn.Module) -> Tap | None:
        """V2's variant on VGGT has one head for all views, of another build."""
        return VGGT_TAP if hasattr(getattr(encoder, "gaussian_param_head", None), "scratch") else self.tap

    def batch_of_call(self, call: Call) -> Any:
        parts = call.batch if isinstance(call.batch, list) else [call.batch]
        target = call.named.get("target")
        return {
            "context": self.context_of(call),
            "target": parts[0]["target"] if target is None else target,
            "scene": [name for part in parts for name in part["scene"]],
        }

    def scene(self, output: Any) -> Any:
        return output["gaussians"]

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        scene = self.scene(output)
        harmonics = super().gaussians(output, scenes, call).harmonics
        return Gaussians.from_scales(scene.means, scene.scales, scene.rotations, scene.opacities, harmonics)

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        scene = self.scene(output)
        with_covariances = dataclasses.replace(scene, scales=refined.scales, rotations=refined.quats)
        plain = Gaussians(refined.means, scene.covariances, refined.opacities, refined.harmonics)
        changed = super().with_gaussians({**output, "gaussians": with_covariances}, plain)
        if cameras is None:
            return changed
        read = "cwt" if "cwt" in output["extrinsics"] else "c"
        poses = output["extrinsics"][read]
        moved = torch.cat([world_to_camera(cameras).to(poses), poses[:, cameras.shape[1] :]], 1)
        return {**changed, "extrinsics": {**output["extrinsics"], read: moved}}

    def with_scene(self, output: Any, scene: Any) -> Any:
        return {**output, "gaussians": scene}

    # ---------------------------------------------------------------- predicted cameras

    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        return super().context_views(wrapper, _placed(wrapper, context, output, of_context=True), output)

    def given_poses(self, wrapper: nn.Module, context: Any) -> Tensor | None:
        return world_to_camera(context["extrinsics"]) if "extrinsics" in context else None

    def target_views(self, wrapper: nn.Module, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        return super().context_views(wrapper, _placed(wrapper, batch["target"], output, of_context=False), output)

    def render_targets(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Float[Tensor, "B V 3 H W"]:
        return self.rendered(wrapper, output, _placed(wrapper, batch["target"], output, of_context=False))

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Float[Tensor, "B V 3 H W"]:
        return self.rendered(wrapper, output, _placed(wrapper, batch["context"], output, of_context=True))


def _placed(wrapper: nn.Module, views: Any, output: Any, of_context: bool) -> dict[str, Any]:
    """Context or target views of a batch with the cameras that the host renders them with."""
    if "extrinsics" not in output:
        raise ValueError("the encoder predicted no poses; train and test with model.encoder.estimating_pose=true.")
    count = output["extrinsics"]["c"].shape[1]
    part = slice(None, count) if of_context else slice(count, None)
    placed = {**views, "extrinsics": output["extrinsics"].get("cwt", output["extrinsics"]["c"])[:, part]}
    if "intrinsics" in output and not wrapper.training:  # the training loss takes those of the data
        placed["intrinsics"] = output["intrinsics"].get("cwt", output["intrinsics"]["c"])[:, part]
    return placed


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [SPFSplat]
