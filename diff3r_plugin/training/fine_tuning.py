"""The Lightning module that trains a network for what it gives after refinement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.training.batch import Batch
from diff3r_plugin.training.perceptual import Perceptual
from diff3r_plugin.training.prediction import Prediction
from diff3r_plugin.training.similarity import in_frame_of
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class Refined:
    """A batch after network and layer.

    Args:
        initial: The scenes as the network gives them.
        gaussians: The refined scenes.
        context: The context views, with the network's cameras where it predicts them.
        target: The target views in the frame of the scenes.
        info: What the solver reports.
    """

    initial: Gaussians
    gaussians: Gaussians
    context: Views
    target: Views
    info: TTOInfo


class FineTuning(LightningModule):
    """Trains a network from images to Gaussians for the scene after refinement, judged on views that nothing has seen.

    Losses: mean squared error on the target views, and LPIPS if asked for. Validation logs PSNR and SSIM of the target
    views, and PSNR of the context, before and after refinement.

    Args:
        network: Called with the context views (images in [0, 1], the data's cameras); returns a `Prediction`.
        head: Predicts the proximal weights, called like :class:`~diff3r_plugin.UncertaintyHead`; None: the same
            numbers everywhere.
        config: Settings of the layer.
        weights: Without a head: one number for each group; missing ones take the defaults.
        learning_rate: Of the network's trainable parameters (Adam).
        head_learning_rate: Of the head's.
        lpips: Weight of the LPIPS loss; above 0 it needs the package ``lpips`` and its weights.

    Raises:
        ValueError: if poses are to move: the network's cameras are taken as they are, with their gradient.
        ImportError: if LPIPS is asked for and the package is missing.

    Example: ``examples/da3_finetune.py``.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module | None = None,
        *,
        config: TTOConfig | None = None,
        weights: Mapping[str, float] | None = None,
        learning_rate: float = 1e-5,
        head_learning_rate: float = 1e-3,
        lpips: float = 0.0,
    ) -> None:
        super().__init__()
        config = config or TTOConfig()
        if "poses" in config.groups:
            raise ValueError("FineTuning moves no poses; leave them out of TTOConfig.groups.")
        self.network, self.head, self.layer = network, head, TTOLayer(config)
        self.weights = ProximalWeights.of(
            {group: (weights or {}).get(group, GROUPS[group].weight) for group in config.groups}
        )
        self.backend = config.backend
        self.learning_rate, self.head_learning_rate, self.lpips = learning_rate, head_learning_rate, lpips
        self._perceptual = Perceptual() if lpips else None

    def forward(self, batch: Batch) -> Refined:
        """Predict and refine the scenes of a batch."""
        prediction: Prediction = self.network(batch.context)
        context, target = batch.context, batch.target
        if prediction.world_to_camera is not None:
            target = in_frame_of(prediction.world_to_camera, context.world_to_camera, target)
            context = context.replace(world_to_camera=prediction.world_to_camera)
        if prediction.intrinsics is not None:
            context = context.replace(intrinsics=prediction.intrinsics)
        weights = self.weights
        if self.head is not None:
            weights = self.head(prediction.gaussians.detach(), context.detach(), prediction.features, self.backend)
        refined, info = self.layer(prediction.gaussians, context, weights)
        return Refined(prediction.gaussians, refined, context, target, info)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        scene = self(batch)
        rendered = render(scene.gaussians, scene.target.replace(images=None), self.backend)
        loss = (rendered - scene.target.given_images).square().mean()
        self._log("train/mse", loss, batch)
        self._log("train/stationarity", scene.info.stationarity.nanmean(), batch)
        self._log("train/fell_back", scene.info.fell_back.float().sum(), batch)
        if self._perceptual is not None:
            perceptual = self._perceptual(rendered, scene.target.given_images)
            self._log("train/lpips", perceptual, batch)
            loss = loss + self.lpips * perceptual
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scene = self(batch)
        for side, gaussians in (("before", scene.initial), ("after", scene.gaussians)):
            seen = self._rendered(gaussians, scene.context)
            self._log(f"val/psnr_context_{side}", psnr(scene.context.given_images, seen).mean(), batch)
            held_out = self._rendered(gaussians, scene.target)
            self._log(f"val/psnr_{side}", psnr(scene.target.given_images, held_out).mean(), batch)
            self._log(f"val/ssim_{side}", ssim(scene.target.given_images, held_out).mean(), batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trained, "lr": self.learning_rate}] if trained else []
        if self.head is not None:
            groups.append({"params": list(self.head.parameters()), "lr": self.head_learning_rate})
        return torch.optim.Adam(groups)

    def _rendered(self, gaussians: Gaussians, views: Views) -> Float[Tensor, "B V 3 H W"]:
        return render(gaussians.detach(), views.detach().replace(images=None), self.backend)

    def _log(self, name: str, value: Tensor, batch: Batch) -> None:
        self.log(name, value.detach(), batch_size=len(batch), prog_bar=name.endswith(("mse", "psnr_after")))
