"""Train or test: ``python -m src.main +experiment=re10k mode=train|test`` (or ``python src/main.py ...``)."""

import sys
from pathlib import Path

import hydra
import torch
from jaxtyping import install_import_hook
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

# `python src/main.py` puts src/ itself on the path instead of the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1])) if __package__ in (None, "") else None

with install_import_hook(("src",), ("beartype", "beartype")):
    from src.config import load_typed_root_config
    from src.dataset.data_module import DataModule
    from src.global_cfg import set_cfg
    from src.loss import get_losses
    from src.misc.callbacks import get_callbacks
    from src.misc.local_logger import get_logger
    from src.misc.step_tracker import StepTracker
    from src.model.decoder import get_decoder
    from src.model.encoder import get_encoder
    from src.model.model_wrapper import ModelWrapper


@hydra.main(version_base=None, config_path="../config", config_name="main")
def main(cfg_dict: DictConfig) -> None:
    cfg = load_typed_root_config(cfg_dict)
    set_cfg(cfg_dict)

    output_dir = Path(hydra.core.hydra_config.HydraConfig.get()["runtime"]["output_dir"])
    logger = get_logger(cfg.wandb, output_dir, OmegaConf.to_container(cfg_dict))
    step_tracker = StepTracker()
    trainer = Trainer(
        max_epochs=-1,
        max_steps=cfg.trainer.max_steps,
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        strategy="ddp" if cfg.trainer.devices not in (1, "1") else "auto",
        logger=logger,
        callbacks=get_callbacks(cfg, output_dir),
        val_check_interval=cfg.trainer.val_check_interval,
        check_val_every_n_epoch=None,
        limit_val_batches=cfg.trainer.limit_val_batches,
        num_sanity_val_steps=cfg.trainer.num_sanity_val_steps,
        gradient_clip_val=cfg.trainer.gradient_clip_val,
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        enable_progress_bar=cfg.trainer.progress_bar,
        enable_model_summary=False,
    )
    # Ranks draw different data and noise; the weights come from rank 0.
    torch.manual_seed(cfg.seed + trainer.global_rank)

    encoder, encoder_visualizer = get_encoder(cfg.model.encoder)
    model_kwargs = {
        "optimizer_cfg": cfg.optimizer,
        "test_cfg": cfg.test,
        "train_cfg": cfg.train,
        "encoder": encoder,
        "encoder_visualizer": encoder_visualizer,
        "decoder": get_decoder(cfg.model.decoder, cfg.dataset),
        "losses": get_losses(cfg.loss),
        "step_tracker": step_tracker,
    }
    checkpoint = cfg.checkpointing.load
    if cfg.mode == "train" and checkpoint is not None and not cfg.checkpointing.resume:
        model = ModelWrapper.load_from_checkpoint(checkpoint, **model_kwargs, strict=True, map_location="cpu")
    else:
        model = ModelWrapper(**model_kwargs)
    data_module = DataModule(cfg.dataset, cfg.data_loader, step_tracker, global_rank=trainer.global_rank)

    if cfg.mode == "train":
        resume_from = checkpoint if cfg.checkpointing.resume else None
        trainer.fit(model, datamodule=data_module, ckpt_path=resume_from)
    else:
        trainer.test(model, datamodule=data_module, ckpt_path=checkpoint)


if __name__ == "__main__":
    main()
