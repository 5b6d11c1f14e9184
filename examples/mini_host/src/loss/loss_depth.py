import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..dataset.types import BatchedExample
from ..model.decoder.decoder import DecoderOutput
from ..model.types import Gaussians
from .loss import Loss


class LossDepth(Loss):
    """Mean absolute error of the logarithm of each context pixel's depth, against the data's true depth."""

    name = "depth"

    def forward(
        self, prediction: DecoderOutput, batch: BatchedExample, gaussians: Gaussians, global_step: int
    ) -> Float[Tensor, ""]:
        if global_step < self.cfg.apply_after_step:
            return prediction.color.new_zeros(())
        context = batch["context"]
        if "depth" not in context:
            raise ValueError(
                "The depth loss needs true depths, and the data has none. Write data with them "
                "(`diff3r make-data --depths`), or leave depth out of loss=[...]."
            )
        truth = context["depth"]
        return self.cfg.weight * self.compute(pixel_depths(gaussians, context["extrinsics"], truth.shape[-2:]), truth)

    def compute(self, predicted: Float[Tensor, "b v h w"], ground_truth: Float[Tensor, "b v h w"]) -> Float[Tensor, ""]:
        return (predicted.clamp_min(1e-3).log() - ground_truth.log()).abs().mean()


def pixel_depths(
    gaussians: Gaussians, extrinsics: Float[Tensor, "b v 4 4"], shape: tuple[int, int] | torch.Size
) -> Float[Tensor, "b v h w"]:
    """Depth of each pixel's own Gaussian in the view it belongs to."""
    h, w = shape
    means = rearrange(gaussians.means, "b (v r) i -> b v r i", v=extrinsics.shape[1])
    forward, origin = extrinsics[:, :, :3, 2], extrinsics[:, :, :3, 3]
    depth = ((means - origin[:, :, None]) * forward[:, :, None]).sum(-1)
    return rearrange(depth, "b v (h w) -> b v h w", h=h, w=w)
