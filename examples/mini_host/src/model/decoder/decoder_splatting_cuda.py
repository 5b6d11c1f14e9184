"""Decoder that splats with the ``diff_gaussian_rasterization`` package."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from ...dataset.dataset_re10k import DatasetRE10kCfg
from ..types import Gaussians
from .cuda_splatting import render_cuda, render_depth_cuda
from .decoder import Decoder, DecoderOutput


@dataclass
class DecoderSplattingCUDACfg:
    name: Literal["splatting_cuda"]
    scale_invariant: bool = True


class DecoderSplattingCUDA(Decoder):
    background_color: Float[Tensor, " 3"]

    def __init__(self, cfg: DecoderSplattingCUDACfg, dataset_cfg: DatasetRE10kCfg) -> None:
        super().__init__(cfg, dataset_cfg)
        background = torch.tensor(dataset_cfg.background_color, dtype=torch.float32)
        self.register_buffer("background_color", background, persistent=False)

    def forward(
        self,
        gaussians: Gaussians,
        extrinsics: Float[Tensor, "batch view 4 4"],
        intrinsics: Float[Tensor, "batch view 3 3"],
        near: Float[Tensor, "batch view"],
        far: Float[Tensor, "batch view"],
        image_shape: tuple[int, int],
        depth_mode: str | None = None,
    ) -> DecoderOutput:
        """Render every view; ``depth_mode="depth"`` adds maps of alpha-weighted z-depth."""
        b, v = extrinsics.shape[:2]

        def per_view(x: Tensor) -> Tensor:
            return repeat(x, "b ... -> (b v) ...", v=v)

        cameras = tuple(rearrange(x, "b v ... -> (b v) ...") for x in (extrinsics, intrinsics, near, far))
        scene = (per_view(gaussians.means), per_view(gaussians.covariances))
        color = render_cuda(
            *cameras,
            image_shape,
            repeat(self.background_color, "c -> (b v) c", b=b, v=v),
            *scene,
            per_view(gaussians.harmonics),
            per_view(gaussians.opacities),
            scale_invariant=self.cfg.scale_invariant,
        )
        depth = None
        if depth_mode is not None:
            depth = render_depth_cuda(
                *cameras, image_shape, *scene, per_view(gaussians.opacities), self.cfg.scale_invariant
            )
            depth = rearrange(depth, "(b v) h w -> b v h w", b=b)
        return DecoderOutput(rearrange(color, "(b v) c h w -> b v c h w", b=b), depth)
