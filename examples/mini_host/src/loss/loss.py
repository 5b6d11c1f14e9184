"""What all losses share: a name, a weight and a step at which they start."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..dataset.types import BatchedExample
from ..model.decoder.decoder import DecoderOutput
from ..model.types import Gaussians


@dataclass
class LossCfg:
    weight: float
    apply_after_step: int = 0


class Loss(nn.Module, ABC):
    name: str

    def __init__(self, cfg: LossCfg) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(
        self, prediction: DecoderOutput, batch: BatchedExample, gaussians: Gaussians, global_step: int
    ) -> Float[Tensor, ""]:
        if global_step < self.cfg.apply_after_step:
            return prediction.color.new_zeros(())
        return self.cfg.weight * self.compute(prediction.color, batch["target"]["image"])

    @abstractmethod
    def compute(
        self, predicted: Float[Tensor, "b v c h w"], ground_truth: Float[Tensor, "b v c h w"]
    ) -> Float[Tensor, ""]: ...
