from jaxtyping import Float
from torch import Tensor

from .loss import Loss


class LossMse(Loss):
    name = "mse"

    def compute(
        self, predicted: Float[Tensor, "b v c h w"], ground_truth: Float[Tensor, "b v c h w"]
    ) -> Float[Tensor, ""]:
        return (predicted - ground_truth).square().mean()
