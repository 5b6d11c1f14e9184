"""A host in AnySplat's shape, trained, validated and tested: its encoder is given images, all cameras are predicted."""

import json
from dataclasses import dataclass
from typing import Any

import host_stubs as stub
import lightning.pytorch
import torch
from plugin import stub_host
from torch import Tensor, nn

from diff3r_adapters.anysplat import AnySplat
from diff3r_plugin.heads.projected import ProjectedHead
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.render import render


class Adapter(AnySplat):
    folder = None

    def scores_folder(self, wrapper, config):
        return self.folder


@dataclass
class EncoderOutput:
    gaussians: Any
    pred_context_pose: dict[str, Tensor]


class Encoder(nn.Module):
    """A Gaussian for every second pixel, and padding; cameras at half the data's scale."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(3, 5, 3, padding=1)
        self.baseline = nn.Parameter(torch.tensor(0.025))

    def forward(self, image, global_step=0, visualization_dump=None):
        b, v, _, h, w = image.shape
        raw = self.layers(image.flatten(0, 1)).unflatten(0, (b, v)).permute(0, 1, 3, 4, 2).flatten(1, 3)[:, ::2]
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        plane = torch.stack([x / w - 0.5, y / h - 0.5, torch.ones(h, w)], -1).flatten(0, 1).repeat(v, 1)[::2]
        means = plane + 0.1 * raw[..., :1]
        padding = 3
        count = means.shape[1] + padding

        def padded(value):
            return torch.cat([value, value.new_zeros(b, padding, *value.shape[2:])], 1)

        poses = torch.eye(4).repeat(b, v, 1, 1)
        poses[:, 1, 0, 3] = self.baseline
        scene = stub.HostGaussians(
            padded(means),
            padded((torch.eye(3) * (1.5 / w) ** 2).expand(b, count - padding, 3, 3)),
            padded(raw[..., 1:4, None] * torch.ones(25).where(torch.arange(25) == 0, 0.1)),
            padded(raw[..., 4].sigmoid()),
        )
        intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(b, v, 3, 3)
        return EncoderOutput(scene, {"extrinsic": poses, "intrinsic": intrinsics})


class Decoder(nn.Module):
    background_color = torch.ones(3)

    def forward(self, gaussians, extrinsics, intrinsics, near, far, image_shape):
        adapter = AnySplat()
        wrapper = type("W", (), {"model": type("M", (), {"decoder": self})})
        images = torch.zeros(*extrinsics.shape[:2], 3, *image_shape)
        views = adapter._views(wrapper, extrinsics, intrinsics, images)
        output = EncoderOutput(gaussians, {})
        return stub_host.Decoded(render(adapter.gaussians(output, len(images)), views))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()


def make_wrapper_class():
    class ModelWrapper(lightning.pytorch.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()

        def loss(self, batch, image):
            output = self.model.encoder(image, self.global_step)
            poses = output.pred_context_pose
            drawn = self.model.decoder.forward(
                output.gaussians, poses["extrinsic"], poses["intrinsic"], 0.01, 100.0, image.shape[-2:]
            )
            self.seen = output
            return (drawn.color - batch["context"]["image"]).square().mean()

        def training_step(self, batch, batch_idx):
            return self.loss(batch, batch["context"]["image"])

        def validation_step(self, batch, batch_idx):
            self.loss(batch, batch["context"]["image"] * 2 - 1)  # as the host does

        def test_step(self, batch, batch_idx):
            self.loss(batch, batch["context"]["image"])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    return ModelWrapper


def test_it_trains_validates_and_tests_with_a_head_for_gaussians_on_no_grid(tmp_path):
    wrapper_class = make_wrapper_class()
    torch.manual_seed(0)
    with stub_host.plugged_in(wrapper_class, tmp_path, Adapter, inner_steps=4) as said:
        model = wrapper_class()
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path)
        trainer.fit(model, stub_host.loader(3), stub_host.loader(1))
        logged = dict(trainer.callback_metrics)
        stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(1), verbose=False)
    head = attachment_of(model).refiner.weights.head
    assert isinstance(head, ProjectedHead) and head.layers[-1].weight.abs().sum() > 0
    assert not [line for line in said if "initial Gaussians" in line]
    for stage in ("", "val/"):
        assert logged[f"diff3r/{stage}psnr_context_after"] > logged[f"diff3r/{stage}psnr_context_before"]
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert scores["context_poses"] == "predicted" and scores["fallbacks"] == 0
    for scene in scores["scenes"]:
        assert scene["after"]["psnr"] > scene["before"]["psnr"] and scene["renderer_agreement_psnr"] > 60
    assert (model.seen.gaussians.opacities[:, -3:] == 0).all()
