from jaxtyping import Float
from torch import Tensor

from .loss import Loss


class LossL1(Loss):
    name = "l1"

    def compute(
        self, predicted: Float[Tensor, "b v c h w"], ground_truth: Float[Tensor, "b v c h w"]
    ) -> Float[Tensor, ""]:
        return (predicted - ground_truth).abs().mean()
