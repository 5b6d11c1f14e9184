"""Views from an evaluation index: ``{scene: {"context": [...], "target": [...]}}``; scenes not in it are skipped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from ..types import Stage
from .view_sampler import ViewSampler


@dataclass
class ViewSamplerEvaluationCfg:
    name: Literal["evaluation"]
    index_path: Path
    num_context_views: int


class ViewSamplerEvaluation(ViewSampler):
    cfg: ViewSamplerEvaluationCfg

    def __init__(self, cfg: ViewSamplerEvaluationCfg, stage: Stage) -> None:
        super().__init__(cfg, stage)
        if not cfg.index_path.is_file():
            raise FileNotFoundError(f"{cfg.index_path} does not exist; set dataset.view_sampler.index_path.")
        self.index: dict[str, dict | None] = json.loads(cfg.index_path.read_text())

    def sample(
        self, scene: str, num_frames: int, generator: torch.Generator
    ) -> tuple[Int64[Tensor, " context_view"], Int64[Tensor, " target_view"]] | None:
        entry = self.index.get(scene)
        if entry is None:
            return None
        frames = [*entry["context"], *entry["target"]]
        if max(frames) >= num_frames:
            raise ValueError(
                f"{self.cfg.index_path} names frame {max(frames)} of {scene}, which has {num_frames} frames."
            )
        if len(entry["context"]) != self.cfg.num_context_views:
            raise ValueError(
                f"{self.cfg.index_path} gives {len(entry['context'])} context views for {scene}; "
                f"dataset.view_sampler.num_context_views is {self.cfg.num_context_views}."
            )
        return torch.tensor(entry["context"]), torch.tensor(entry["target"])
