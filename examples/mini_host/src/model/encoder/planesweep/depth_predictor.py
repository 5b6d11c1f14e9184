"""Depth per pixel from matching, as the expectation over a plane sweep's candidates."""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from .blocks import SmallUNet
from .cost_volume import build_cost_volumes, depth_candidates


class DepthPredictor(nn.Module):
    """Half-resolution disparity and matching confidence.

    The sweep compares learned features and, next to them, the colors of small patches: the colors carry the first
    steps, when the features say nothing yet.
    """

    def __init__(self, d_feature: int, d_hidden: int, num_candidates: int) -> None:
        super().__init__()
        self.num_candidates = num_candidates
        self.sharpness = nn.Parameter(torch.tensor([1.5, 2.0]))  # logs, for features and for colors
        self.refine = SmallUNet(2 * num_candidates + -(-num_candidates // 4) + d_feature, d_hidden)
        self.to_logits = nn.Conv2d(d_hidden, num_candidates, 3, 1, 1)
        nn.init.zeros_(self.to_logits.weight)
        nn.init.zeros_(self.to_logits.bias)

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        features: Float[Tensor, "batch view channel half_height half_width"],
        matching: Float[Tensor, "batch view d_matching half_height half_width"],
        extrinsics: Float[Tensor, "batch view 4 4"],
        intrinsics: Float[Tensor, "batch view 3 3"],
        near: Float[Tensor, "batch view"],
        far: Float[Tensor, "batch view"],
    ) -> tuple[
        Float[Tensor, "batch_view 1 half_height half_width"],
        Float[Tensor, "batch_view 1 half_height half_width"],
        Float[Tensor, "batch_view d_hidden half_height half_width"],
    ]:
        """Disparity as a share of the range (1 at near, 0 at far), confidence, and features behind them."""
        depths = depth_candidates(near, far, self.num_candidates)
        volumes, seen = build_cost_volumes(
            (F.normalize(matching, dim=2), _color_patches(images)), extrinsics, intrinsics, depths
        )
        flat = "b v c h w -> (b v) c h w"
        volumes, seen = rearrange(volumes, "b v g d h w -> (b v) g d h w"), rearrange(seen, flat)
        hidden = self.refine(torch.cat([volumes.flatten(1, 2), seen[:, ::4], rearrange(features, flat)], 1))
        gain = self.sharpness.exp()
        logits = gain[0] * volumes[:, 0] + gain[1] * volumes[:, 1] + self.to_logits(hidden)
        probability = logits.softmax(1)
        share = torch.linspace(1, 0, self.num_candidates, dtype=logits.dtype, device=logits.device)
        disparity = (probability * share[:, None, None]).sum(1, keepdim=True)
        # Mass near the expectation: 1 for a clear match, little when several depths fit alike.
        near_mean = (share[:, None, None] - disparity).abs() < 1.5 / self.num_candidates
        confidence = reduce(probability * near_mean, "bv d h w -> bv () h w", "sum")
        return disparity, confidence, hidden


def _color_patches(
    images: Float[Tensor, "batch view 3 height width"],
) -> Float[Tensor, "batch view d half_height half_width"]:
    """The four pixels behind each half-resolution one, less most of their mean, of unit length."""
    patches = rearrange(images, "b v c (h i) (w j) -> b v (c i j) h w", i=2, j=2)
    return F.normalize(patches - 0.8 * patches.mean(2, keepdim=True), dim=2)
