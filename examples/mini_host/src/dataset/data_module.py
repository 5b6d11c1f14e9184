"""Data loaders for the three stages."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from ..misc.step_tracker import StepTracker
from .dataset_re10k import DatasetRE10k, DatasetRE10kCfg
from .types import BatchedExample, Stage
from .view_sampler import get_view_sampler

DataShim = Callable[[BatchedExample], BatchedExample]


@dataclass
class DataLoaderStageCfg:
    batch_size: int
    num_workers: int
    seed: int


@dataclass
class DataLoaderCfg:
    train: DataLoaderStageCfg
    val: DataLoaderStageCfg
    test: DataLoaderStageCfg


def get_data_shim(encoder: nn.Module) -> DataShim:
    """What the encoder wants done to a batch before it sees it."""
    shim = getattr(encoder, "get_data_shim", None)
    return shim() if shim is not None else lambda batch: batch


class DataModule(LightningDataModule):
    def __init__(
        self,
        dataset_cfg: DatasetRE10kCfg,
        data_loader_cfg: DataLoaderCfg,
        step_tracker: StepTracker,
        global_rank: int = 0,
    ) -> None:
        super().__init__()
        self.dataset_cfg = dataset_cfg
        self.data_loader_cfg = data_loader_cfg
        self.step_tracker = step_tracker
        self.global_rank = global_rank

    def _loader(self, stage: Stage) -> DataLoader:
        cfg: DataLoaderStageCfg = getattr(self.data_loader_cfg, stage)
        # The order of the data hangs on this seed and the step alone, not on what else draws random numbers.
        seed = cfg.seed + self.global_rank * 7919
        view_sampler = get_view_sampler(self.dataset_cfg.view_sampler, stage)
        dataset = DatasetRE10k(self.dataset_cfg, stage, view_sampler, self.step_tracker, seed)
        return DataLoader(
            dataset,
            cfg.batch_size,
            num_workers=cfg.num_workers,
            generator=torch.Generator().manual_seed(seed),
            drop_last=stage == "train",
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")
