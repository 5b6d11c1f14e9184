"""How frames of a scene become context and target views."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ..types import Stage


class ViewSampler(ABC):
    def __init__(self, cfg: Any, stage: Stage) -> None:
        self.cfg = cfg
        self.stage = stage

    @abstractmethod
    def sample(
        self, scene: str, num_frames: int, generator: torch.Generator
    ) -> tuple[Int64[Tensor, " context_view"], Int64[Tensor, " target_view"]] | None:
        """Frame numbers of the context and target views; None when the scene does not fit."""
