from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..evaluation.metrics import compute_ssim
from .loss import Loss


class LossSsim(Loss):
    name = "ssim"

    def compute(
        self, predicted: Float[Tensor, "b v c h w"], ground_truth: Float[Tensor, "b v c h w"]
    ) -> Float[Tensor, ""]:
        flat = "b v c h w -> (b v) c h w"
        return 1 - compute_ssim(rearrange(ground_truth, flat), rearrange(predicted, flat)).mean()
