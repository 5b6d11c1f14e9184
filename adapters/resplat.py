"""Adapter for ReSplat."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import DECODER, PixelSplatFamily, scaled_intrinsics
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.io.quaternions import quaternions
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, RefinedMethod, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_resplat.py"
GSPLAT_DECODER = "src/model/decoder/gsplat_decoder_splatting_cuda.py"


class ReSplat(PixelSplatFamily):
    """github.com/cvg/resplat: Gaussians on a coarse grid, updated by a recurrent network from their rendering errors.

    Without updates (``num_refine=0``, the first stage of its training) the encoder's output is refined; with them, the
    last scene of ``forward_update`` is, and what that rendered of it is rendered again.
    """

    name = "resplat"
    repository = "https://github.com/cvg/resplat"
    verified_commits = ("cc4594a",)
    e3nn_harmonics = False
    evaluated = 25
    fingerprints = (*(file for file in PixelSplatFamily.fingerprints if file != DECODER), ENCODER, GSPLAT_DECODER)
    expectations = (
        *(e for e in PixelSplatFamily.expectations if e.file != DECODER),
        Expectation(ENCODER, "EncoderReSplat.forward", ("context", "global_step"), "refining its output"),
        Expectation(ENCODER, "EncoderReSplat.forward_update", ("context", "target", "renderer"), "refining its scene"),
        Expectation(GSPLAT_DECODER, "GSplatDecoderSplattingCUDA.forward", ("gaussians", "extrinsics"), "rendering"),
    )

    def tap_of(self, encoder: Any) -> Tap:
        return Tap(("update_proj" if encoder.cfg.num_refine else "gaussian_regressor",), "output", "(b v) c h w")

    def refined_of(self, encoder: Any) -> RefinedMethod:
        return RefinedMethod("forward_update") if encoder.cfg.num_refine else RefinedMethod()

    def alignment(self, encoder: Any) -> tuple[PixelGrid, ...]:
        return (PixelGrid(stride=encoder.cfg.latent_downsample // int(encoder.cfg.init_gaussian_multiple**0.5)),)

    def scene(self, output: Any) -> Any:
        if isinstance(output, dict):
            return output["gaussian"][-1] if "gaussian" in output else output["gaussians"]
        return output

    def with_scene(self, output: Any, scene: Any) -> Any:
        if not isinstance(output, dict):
            return scene
        changed = {"gaussian": [*output["gaussian"][:-1], scene]} if "gaussian" in output else {"gaussians": scene}
        return {**output, **changed}

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        found, scene = super().gaussians(output, scenes, call), self.scene(output)
        quats = self._reframed(scene.rotations_unnorm, call)
        return Gaussians.from_scales(found.means, scene.scales, quats, found.opacities, found.harmonics)

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        assert refined.scales is not None and refined.quats is not None
        changed = super().with_gaussians(output, refined.with_covariances(), cameras, call)
        quats = self._reframed(refined.quats, call, back=True)
        turned = {"rotations_unnorm": quats, "rotations": quats / quats.norm(dim=-1, keepdim=True)}
        changed = self.with_scene(changed, dataclasses.replace(self.scene(changed), scales=refined.scales, **turned))
        if isinstance(changed, dict) and "gaussian" in changed:
            self._render_again(changed, call)
        return changed

    def _reframed(self, quats: Tensor, call: Call, back: bool = False) -> Tensor:
        """From the frame of the view that a Gaussian stands in, where its rotations are, to the world; or back.

        A decoder without ``use_covariances`` takes them as they are.
        """
        if not call.wrapper.decoder.cfg.use_covariances:
            return quats
        cameras = self.context_of(call)["extrinsics"]
        turns = quaternions(cameras[..., :3, :3].flatten(0, 1)).unflatten(0, cameras.shape[:2])
        turns = turns.repeat_interleave(quats.shape[1] // turns.shape[1], 1)
        w, v, a, b = turns[..., :1], turns[..., 1:] * (-1 if back else 1), quats[..., :1], quats[..., 1:]
        return torch.cat([w * a - (v * b).sum(-1, keepdim=True), w * b + a * v + torch.linalg.cross(v, b)], -1)

    def _render_again(self, changed: dict, call: Call) -> None:
        """The renderings of the last scene, which the losses and the metrics read."""
        size = call.argument("context")["image"].shape[-2:]
        for key, cameras in (("render", call.argument("target")), ("render_input", call.argument("context"))):
            if cameras is not None:
                given = (cameras[name] for name in ("extrinsics", "intrinsics", "near", "far"))
                drawn = call.argument("renderer").forward(self.scene(changed), *given, tuple(size))
                changed[key] = [*changed[key][:-1], drawn]

    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        views = super().context_views(wrapper, context, output)
        near, far = (context[name][:1, :1].expand_as(context[name]) for name in ("near", "far"))  # the first for all
        return views.replace(antialiased=True, dilation=0.1, near=near, far=far)

    def pixel_intrinsics(self, wrapper: nn.Module, normalized: Tensor, height: int, width: int) -> Tensor:
        return scaled_intrinsics(normalized, height, width)

    def background(self, wrapper: nn.Module) -> Any:
        return (0.0, 0.0, 0.0)  # whatever is configured

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        return Path(config["output_dir"]) / "metrics"


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [ReSplat]
