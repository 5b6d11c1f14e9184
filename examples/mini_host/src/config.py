"""The typed form of the configuration in ``config/``. Keys without a field here are tolerated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dacite import Config, from_dict
from omegaconf import DictConfig, OmegaConf

from .dataset.data_module import DataLoaderCfg
from .dataset.dataset_re10k import DatasetRE10kCfg
from .loss.loss import LossCfg
from .model.decoder import DecoderCfg
from .model.encoder import EncoderCfg
from .model.model_wrapper import OptimizerCfg, TestCfg, TrainCfg


@dataclass
class CheckpointingCfg:
    load: str | None
    resume: bool
    every_n_train_steps: int
    save_top_k: int


@dataclass
class TrainerCfg:
    accelerator: str
    devices: int | str
    max_steps: int
    max_seconds: float | None
    val_check_interval: int
    limit_val_batches: int
    num_sanity_val_steps: int
    gradient_clip_val: float
    log_every_n_steps: int
    progress_bar: bool


@dataclass
class ModelCfg:
    encoder: EncoderCfg
    decoder: DecoderCfg


@dataclass
class RootCfg:
    mode: Literal["train", "test"]
    seed: int
    wandb: dict[str, Any]
    dataset: DatasetRE10kCfg
    data_loader: DataLoaderCfg
    model: ModelCfg
    loss: dict[str, LossCfg]
    optimizer: OptimizerCfg
    checkpointing: CheckpointingCfg
    train: TrainCfg
    test: TestCfg
    trainer: TrainerCfg


def load_typed_root_config(cfg: DictConfig) -> RootCfg:
    typed = from_dict(RootCfg, OmegaConf.to_container(cfg), config=Config(type_hooks={Path: Path}, cast=[tuple, float]))
    # The schedule has to end when the run ends, so the optimizer gets to know both limits.
    typed.optimizer.max_steps = typed.trainer.max_steps
    typed.optimizer.max_seconds = typed.trainer.max_seconds
    return typed
