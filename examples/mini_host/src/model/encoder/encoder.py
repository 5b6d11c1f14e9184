"""From context views to Gaussians."""

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from ...dataset.data_module import DataShim
from ...dataset.types import BatchedViews
from ..types import Gaussians


class Encoder(nn.Module, ABC):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg

    @abstractmethod
    def forward(
        self,
        context: BatchedViews,
        global_step: int,
        deterministic: bool = False,
        visualization_dump: dict | None = None,
        scene_names: list | None = None,
    ) -> Gaussians: ...

    def get_data_shim(self) -> DataShim:
        """What is to be done to a batch before the encoder sees it; nothing by default."""
        return lambda batch: batch
