"""Pixel-aligned Gaussians from a small convolutional network with a plane sweep between the context views."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ...dataset.data_module import DataShim
from ...dataset.shims.patch_shim import apply_patch_shim
from ...dataset.types import BatchedExample, BatchedViews
from ...geometry.projection import sample_image_grid
from ..types import Gaussians
from .encoder import Encoder
from .gaussian_adapter import GaussianAdapter, GaussianAdapterCfg
from .planesweep.blocks import Backbone, conv_block
from .planesweep.depth_predictor import DepthPredictor

PATCH_SIZE = 8  # the lowest resolution of the network is an eighth of the image's


@dataclass
class EncoderPlaneSweepCfg:
    name: Literal["planesweep"]
    d_feature: int
    d_matching: int
    num_depth_candidates: int
    d_refine: int
    gaussian_adapter: GaussianAdapterCfg


class EncoderPlaneSweep(Encoder):
    """Two or more posed views in, one Gaussian per pixel out, in the order (view, row, column)."""

    cfg: EncoderPlaneSweepCfg

    def __init__(self, cfg: EncoderPlaneSweepCfg) -> None:
        super().__init__(cfg)
        d_full = cfg.d_feature // 2
        self.backbone = Backbone(cfg.d_feature, cfg.d_matching)
        self.depth_predictor = DepthPredictor(cfg.d_feature, cfg.d_refine, cfg.num_depth_candidates)
        self.reduce = nn.Conv2d(cfg.d_refine, d_full, 1)
        self.refine_full = nn.Sequential(
            conv_block(2 * d_full + 5, cfg.d_feature), conv_block(cfg.d_feature, cfg.d_feature)
        )
        self.gaussian_adapter = GaussianAdapter(cfg.gaussian_adapter)
        self.to_upsampling = nn.Conv2d(cfg.d_feature, 9, 3, 1, 1)
        self.to_gaussians = nn.Conv2d(cfg.d_feature, 1 + self.gaussian_adapter.d_in, 3, 1, 1)
        # Start at the prior: the pixel's color, a round Gaussian of its size, the matched depth.
        for layer in (self.to_gaussians, self.to_upsampling):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        context: BatchedViews,
        global_step: int,
        deterministic: bool = False,
        visualization_dump: dict | None = None,
        scene_names: list | None = None,
    ) -> Gaussians:
        images, extrinsics, intrinsics = context["image"], context["extrinsics"], context["intrinsics"]
        b, v, _, h, w = images.shape
        near, far = context["near"], context["far"]

        flat_images = rearrange(images, "b v c h w -> (b v) c h w")
        full, half, matching = self.backbone(flat_images)
        split = {"b": b, "v": v}
        disparity, confidence, hidden = self.depth_predictor(
            images,
            rearrange(half, "(b v) c h w -> b v c h w", **split),
            rearrange(matching, "(b v) c h w -> b v c h w", **split),
            extrinsics,
            intrinsics,
            near,
            far,
        )
        coarse = F.interpolate(torch.cat([disparity, confidence, self.reduce(hidden)], 1), size=(h, w), mode="bilinear")
        features = self.refine_full(torch.cat([flat_images, full, coarse], 1))
        raw = self.to_gaussians(features)
        disparity = upsample_convex(disparity, self.to_upsampling(features))
        # The full-resolution correction stays within about two steps of the sweep.
        disparity = disparity + raw[:, :1].tanh() * (2 / self.cfg.num_depth_candidates)
        disparity = rearrange(disparity.clamp(0, 1), "(b v) () h w -> b v (h w)", **split)
        depth = 1 / (disparity / near[..., None] + (1 - disparity) / far[..., None])

        if visualization_dump is not None:
            visualization_dump["depth"] = rearrange(depth, "b v (h w) -> b v h w", h=h)
        return self.gaussian_adapter(
            rearrange(raw[:, 1:], "(b v) c h w -> b v (h w) c", **split),
            rearrange(sample_image_grid((h, w), images.device), "h w xy -> (h w) xy"),
            depth,
            rearrange(images, "b v c h w -> b v (h w) c"),
            extrinsics,
            intrinsics,
            (h, w),
        )

    def get_data_shim(self) -> DataShim:
        def data_shim(batch: BatchedExample) -> BatchedExample:
            return apply_patch_shim(batch, PATCH_SIZE)

        return data_shim


def upsample_convex(
    coarse: Float[Tensor, "batch 1 half_height half_width"], logits: Float[Tensor, "batch 9 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Each fine pixel mixes the nine coarse ones around it by weights of its own (RAFT, Teed and Deng 2020).

    Unlike interpolation it can follow an edge: a fine pixel takes the value of one side.
    """
    h, w = coarse.shape[-2:]
    neighbors = F.unfold(F.pad(coarse, (1, 1, 1, 1), mode="replicate"), 3)
    neighbors = F.interpolate(rearrange(neighbors, "b n (h w) -> b n h w", h=h, w=w), size=logits.shape[-2:])
    return (logits.softmax(1) * neighbors).sum(1, keepdim=True)
