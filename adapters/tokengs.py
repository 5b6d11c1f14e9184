"""Adapter for TokenGS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, RefinedMethod, hookimpl
from diff3r_plugin.render.spherical_harmonics import SH_C0

MODEL = "tokengs/models/tokengs.py"
INPUTS = "tokengs/models/input_types.py"
RENDERER = "tokengs/rendering/gs.py"
PARTS = (3, 1, 3, 4, 3)  # of the last axis: center, opacity, scales, quaternion (wxyz), color


class TokenGS(HostAdapter):
    """github.com/nv-tlabs/TokenGS: learned tokens become Gaussians on no grid, colors without harmonics.

    A loop of its own on accelerate; one ``forward`` predicts, renders and computes the loss. With ``use_ttt_for_eval``
    the host tunes tokens instead, by another method, and nothing is refined.
    """

    name = "tokengs"
    repository = "https://github.com/nv-tlabs/TokenGS"
    verified_commits = ("e558a43",)
    hydra = False
    lightning = False
    wrapper = "tokengs.models.tokengs:TokenGS"
    refined = RefinedMethod("forward_reconstruction")
    draws = "gs.render"
    fingerprints = (MODEL, INPUTS, RENDERER, "tokengs/train.py", "tokengs/evaluate.py")
    expectations = (
        Expectation(MODEL, "TokenGS.forward_reconstruction", ("model_input",), "refining what it returns"),
        Expectation(INPUTS, "Reconstruction", ("gaussians", "background_color"), "the scene"),
        Expectation(INPUTS, "ModelInputEncoder", ("intrinsics_input", "cam_to_world_input"), "the context's cameras"),
        Expectation(INPUTS, "split_data", ("batch", "opt"), "the targets"),
        Expectation(RENDERER, "GaussianRenderer.render", ("gaussians", "cam_view", "intrinsics"), "rendering"),
    )

    def encoder(self, wrapper: nn.Module) -> nn.Module:
        return wrapper

    def alignment(self, encoder: nn.Module) -> None:
        return None

    # ---------------------------------------------------------------- the scene

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        means, opacities, scales, quats, colors = output.gaussians.split(PARTS, -1)
        harmonics = ((colors - 0.5) / SH_C0)[..., None]
        return Gaussians.from_scales(means, scales, quats, opacities[..., 0], harmonics)

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        assert refined.scales is not None and refined.quats is not None
        colors = (0.5 + SH_C0 * refined.harmonics[..., 0]).clamp_min(0)  # as our renderer shows them
        parts = (refined.means, refined.opacities[..., None], refined.scales, refined.quats, colors)
        return dataclasses.replace(output, gaussians=torch.cat(parts, -1))

    # ---------------------------------------------------------------- cameras and images

    def context_of(self, call: Call) -> Any:
        return call.argument("model_input").encoder

    def context_views(self, wrapper: Any, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        world_to_camera = torch.linalg.inv(context.cam_to_world_input.double()).to(context.cam_to_world_input)
        return _views(wrapper, output, world_to_camera, context.intrinsics_input, context.images_rgb_unnormalized)

    def target_images(self, batch: Any) -> Tensor:
        return batch["images_output"]

    def target_views(self, wrapper: Any, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        return _views(wrapper, output, batch["cam_view"].mT, batch["intrinsics"], batch["images_output"])

    def drawn_images(self, drawn: Any) -> Tensor:
        return drawn["images_pred"]

    def render_targets(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return _rendered(wrapper, output, batch["cam_view"], batch["intrinsics"])

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return _rendered(wrapper, output, batch["cam_view_input"], batch["intrinsics_input"])

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        return Path(wrapper.opt.workspace)


def _views(wrapper: Any, output: Any, world_to_camera: Tensor, pinholes: Tensor, images: Tensor) -> Views:
    """Cameras whose pinholes are fx, fy, cx, cy in pixels."""
    intrinsics = torch.diag_embed(torch.cat([pinholes[..., :2], torch.ones_like(pinholes[..., :1])], -1))
    intrinsics[..., :2, 2] = pinholes[..., 2:]
    ends = {"near": wrapper.opt.znear, "far": wrapper.opt.zfar}
    return Views(world_to_camera, intrinsics, images, **ends, background=output.background_color.detach())


def _rendered(wrapper: Any, output: Any, cameras: Tensor, pinholes: Tensor) -> Tensor:
    drawn = wrapper.gs.render(output.gaussians, cameras, bg_color=output.background_color, intrinsics=pinholes)
    return drawn["images_pred"]


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [TokenGS]
