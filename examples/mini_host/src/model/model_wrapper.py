"""The training loop's view of the model."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from ..dataset.data_module import get_data_shim
from ..dataset.shims.context_shim import keep_outer_views
from ..dataset.types import BatchedExample
from ..evaluation.metrics import compute_psnr, compute_ssim
from ..loss.loss import Loss
from ..loss.loss_depth import pixel_depths
from ..misc.benchmarker import Benchmarker
from ..misc.image_io import prep_image, save_image
from ..misc.step_tracker import StepTracker
from .decoder.decoder import Decoder
from .encoder.encoder import Encoder


@dataclass
class OptimizerCfg:
    lr: float
    warm_up_steps: int
    final_lr_share: float
    max_steps: int = 0
    max_seconds: float | None = None


@dataclass
class TrainCfg:
    log_images_every_n_val: int
    extra_context_share: float = 1.0


@dataclass
class TestCfg:
    output_path: Path
    compute_scores: bool
    save_image: bool


class ModelWrapper(LightningModule):
    def __init__(
        self,
        optimizer_cfg: OptimizerCfg,
        test_cfg: TestCfg,
        train_cfg: TrainCfg,
        encoder: Encoder,
        encoder_visualizer: nn.Module | None,
        decoder: Decoder,
        losses: list[Loss],
        step_tracker: StepTracker | None,
    ) -> None:
        super().__init__()
        self.optimizer_cfg = optimizer_cfg
        self.test_cfg = test_cfg
        self.train_cfg = train_cfg
        self.step_tracker = step_tracker
        self.encoder = encoder
        self.encoder_visualizer = encoder_visualizer
        self.decoder = decoder
        self.data_shim = get_data_shim(encoder)
        self.losses = nn.ModuleList(losses)
        self.benchmarker = Benchmarker()
        self.test_scores: dict[str, dict[str, float]] = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The order of the data depends on the step: a resumed run continues instead of starting over.
        if self.step_tracker is not None:
            self.step_tracker.set_step(checkpoint["global_step"])

    def training_step(self, batch: BatchedExample, batch_idx: int) -> torch.Tensor:
        batch = self.data_shim(batch)
        views = batch["context"]["image"].shape[1]
        if (
            self.train_cfg.extra_context_share < 1
            and torch.rand(()) >= self.train_cfg.extra_context_share
            and views > 2
        ):
            batch = keep_outer_views(batch, 2)
        target = batch["target"]
        h, w = target["image"].shape[-2:]
        gaussians = self.encoder(batch["context"], self.global_step, False, scene_names=batch["scene"])
        output = self.decoder.forward(
            gaussians, target["extrinsics"], target["intrinsics"], target["near"], target["far"], (h, w)
        )
        with torch.no_grad():
            flat = "b v c h w -> (b v) c h w"
            psnr = compute_psnr(rearrange(target["image"], flat), rearrange(output.color, flat)).mean()
        self.log("train/psnr", psnr, prog_bar=True)

        total = output.color.new_zeros(())
        for loss_fn in self.losses:
            loss = loss_fn.forward(output, batch, gaussians, self.global_step)
            self.log(f"loss/{loss_fn.name}", loss)
            total = total + loss
        self.log("loss/total", total)
        self.log("info/global_step", float(self.global_step))
        return total

    def on_train_batch_end(self, outputs: Any, batch: BatchedExample, batch_idx: int) -> None:
        if self.step_tracker is not None:
            self.step_tracker.set_step(self.global_step)

    def test_step(self, batch: BatchedExample, batch_idx: int) -> None:
        batch = self.data_shim(batch)
        context, target = batch["context"], batch["target"]
        b, v, _, h, w = target["image"].shape
        if b != 1:
            raise ValueError(f"Testing takes one scene at a time; data_loader.test.batch_size is {b}.")
        with self.benchmarker.time("encoder"):
            gaussians = self.encoder(context, self.global_step, deterministic=False)
        with self.benchmarker.time("decoder", num_calls=v):
            output = self.decoder.forward(
                gaussians, target["extrinsics"], target["intrinsics"], target["near"], target["far"], (h, w)
            )
        (scene,) = batch["scene"]
        if self.test_cfg.save_image:
            for index, color in zip(target["index"][0].tolist(), output.color[0], strict=True):
                save_image(color, self.test_cfg.output_path / scene / "color" / f"{index:06d}.png")
        if self.test_cfg.compute_scores:
            scores = {
                "psnr": compute_psnr(target["image"][0], output.color[0]).mean().item(),
                "ssim": compute_ssim(target["image"][0], output.color[0]).mean().item(),
            }
            self.test_scores[scene] = scores
            self.log_dict({f"test/{name}": value for name, value in scores.items()}, batch_size=1)

    def on_test_end(self) -> None:
        folder = self.test_cfg.output_path
        self.benchmarker.dump(folder / "benchmark.json")
        if not self.test_scores:
            return
        metrics = {name: [s[name] for s in self.test_scores.values()] for name in next(iter(self.test_scores.values()))}
        averages = {name: sum(values) / len(values) for name, values in metrics.items()}
        for name, values in metrics.items():
            (folder / f"scores_{name}_all.json").write_text(json.dumps(values))
        (folder / "scores_all_avg.json").write_text(json.dumps(averages))
        (folder / "scores_per_scene.json").write_text(json.dumps(self.test_scores, indent=1))
        print(", ".join(f"{name} {value:.3f}" for name, value in averages.items()), f"({len(self.test_scores)} scenes)")

    @rank_zero_only
    def validation_step(self, batch: BatchedExample, batch_idx: int) -> None:
        batch = self.data_shim(batch)
        context, target = batch["context"], batch["target"]
        b, _, _, h, w = target["image"].shape
        if b != 1:
            raise ValueError(f"Validation takes one scene at a time; data_loader.val.batch_size is {b}.")
        gaussians = self.encoder(context, self.global_step, deterministic=False)
        output = self.decoder.forward(
            gaussians, target["extrinsics"], target["intrinsics"], target["near"], target["far"], (h, w), "depth"
        )
        truth, predicted = target["image"][0], output.color[0]
        self.log("val/psnr", compute_psnr(truth, predicted).mean(), batch_size=1, rank_zero_only=True)
        self.log("val/ssim", compute_ssim(truth, predicted).mean(), batch_size=1, rank_zero_only=True)

        if "depth" in context:
            true_depth = context["depth"]
            error = pixel_depths(gaussians, context["extrinsics"], true_depth.shape[-2:]) / true_depth - 1
            self.log("val/depth_error", error.abs().median(), batch_size=1, rank_zero_only=True)

        every = self.train_cfg.log_images_every_n_val
        if batch_idx == 0 and every > 0 and hasattr(self.logger, "log_image"):
            near = target["near"][0, 0]
            disparity = (near / output.depth[0].clamp_min(near))[:, None].expand(-1, 3, -1, -1)
            comparison = torch.cat([torch.cat(list(images), -1) for images in (truth, predicted, disparity)], -2)
            self.logger.log_image("comparison", [prep_image(comparison)], step=self.global_step, caption=batch["scene"])

    def configure_optimizers(self) -> dict[str, Any]:
        cfg = self.optimizer_cfg
        optimizer = torch.optim.Adam(self.parameters(), lr=cfg.lr)
        start = time.monotonic()

        def factor(step: int) -> float:
            """Linear warm-up, then half a cosine, which ends with the steps or with the time, whichever is first."""
            done = step / max(cfg.max_steps, 1)
            if cfg.max_seconds is not None:
                done = max(done, (time.monotonic() - start) / cfg.max_seconds)
            cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
            decay = cfg.final_lr_share + (1 - cfg.final_lr_share) * cosine
            return min((step + 1) / max(cfg.warm_up_steps, 1), 1) * decay

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
