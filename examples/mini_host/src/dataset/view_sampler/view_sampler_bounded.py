"""Context views a bounded number of frames apart, targets between them; for training."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from .view_sampler import ViewSampler


@dataclass
class ViewSamplerBoundedCfg:
    name: Literal["bounded"]
    num_context_views: int
    num_target_views: int
    min_distance_between_context_views: int
    max_distance_between_context_views: int
    min_distance_to_context_views: int
    extra_context_views: int = 0


class ViewSamplerBounded(ViewSampler):
    cfg: ViewSamplerBoundedCfg

    def sample(
        self, scene: str, num_frames: int, generator: torch.Generator
    ) -> tuple[Int64[Tensor, " context_view"], Int64[Tensor, " target_view"]] | None:
        views = self.cfg.num_context_views + (self.cfg.extra_context_views if self.stage == "train" else 0)
        margin = self.cfg.min_distance_to_context_views
        least = max(self.cfg.min_distance_between_context_views, 2 * margin, views - 1)
        most = min(self.cfg.max_distance_between_context_views, num_frames - 1)
        if most < least:
            return None

        def draw(low: int, high: int, count: int = 1) -> Tensor:  # both ends included
            return torch.randint(low, high + 1, (count,), generator=generator)

        if self.stage == "train":
            gap = int(draw(least, most))
            first = int(draw(0, num_frames - 1 - gap))
            target = draw(first + margin, first + gap - margin, self.cfg.num_target_views)
        else:  # the same views every time
            gap = (least + most) // 2
            first = (num_frames - 1 - gap) // 2
            target = torch.linspace(first + margin, first + gap - margin, self.cfg.num_target_views).long()
        context = torch.linspace(first, first + gap, views).round().long()
        return context, target
