"""A host of a few lines, in either Lightning namespace and with the family's peculiarities as switches."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import host_stubs as stub
import torch
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Tap
from diff3r_plugin.plugin.attaching.patching import Patches
from diff3r_plugin.plugin.attaching.wrapper_patches import wrapper_patches
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.render import render


class StubEncoder(nn.Module):
    """One convolution from images to Gaussians on a plane at depth 2."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3, padding=1)
        self.to_gaussians = nn.Conv2d(4, 5, 1)
        self.calls = 0

    def forward(self, context, global_step=0, deterministic=False):
        self.calls += 1
        images = context["image"]
        b, v, _, h, w = images.shape
        raw = self.to_gaussians(self.trunk(images.flatten(0, 1)).relu())
        raw = raw.unflatten(0, (b, v)).permute(0, 1, 3, 4, 2)  # b v h w 5
        rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        plane = torch.stack([columns / w - 0.5, rows / h - 0.5, torch.ones(h, w)], -1) * 2
        means = (plane + 0.1 * raw[..., :1]).flatten(1, 3)
        return stub.HostGaussians(
            means,
            torch.eye(3).expand(b, v * h * w, 3, 3) * (2 / w) ** 2,
            ((images.permute(0, 1, 3, 4, 2) - 0.5) / 0.28 + raw[..., 1:4]).flatten(1, 3)[..., None],
            raw[..., 4].sigmoid().flatten(1, 3),
        )


class StubAdapter(PixelSplatFamily):
    name = "stub"
    tap = Tap(("to_gaussians",), "input", "(b v) c h w")
    folder = Path(".")

    def scores_folder(self, wrapper, config):
        return self.folder


@dataclass
class Decoded:
    color: Tensor


class StubDecoder(nn.Module):
    background_color = torch.zeros(3)

    def forward(self, gaussians, extrinsics, intrinsics, near, far, image_shape):
        adapter = StubAdapter()
        cameras = {"extrinsics": extrinsics, "intrinsics": intrinsics, "near": near}
        cameras["image"] = torch.zeros(*near.shape, 3, *image_shape)
        views = adapter.context_views(SimpleNamespace(decoder=self), cameras, None)
        return Decoded(render(adapter.gaussians(gaussians, len(near)), views))


def make_wrapper_class(lightning_module: type, encoder: type = StubEncoder) -> type:
    """A fresh LightningModule class of a namespace, so that patches of one test never meet another's.

    An encoder of another kind says with ``scene(output)`` what the decoder gets, and with ``shim(batch)`` what the
    host does to a batch.
    """

    class ModelWrapper(lightning_module):
        def __init__(self, names_decide: bool = False) -> None:
            super().__init__()
            self.encoder, self.decoder = encoder(), StubDecoder()
            self.data_shim = getattr(self.encoder, "shim", dict)
            self.names_decide = names_decide
            self.losses_seen: list[float] = []

        def forward_loss(self, batch):
            target = batch["target"]
            shape = target["image"].shape[-2:]
            call = self.encoder.forward if getattr(self.encoder, "called_by_forward", False) else self.encoder
            scene = call(batch["context"], self.global_step, False)
            scene = getattr(self.encoder, "scene", lambda output: output)(scene)
            cameras = (target[k] for k in ("extrinsics", "intrinsics", "near", "far"))
            return (self.decoder.forward(scene, *cameras, shape).color - target["image"]).square().mean()

        def training_step(self, batch, batch_idx):
            loss = self.forward_loss(self.data_shim(batch))
            self.losses_seen.append(loss.item())
            return loss

        def validation_step(self, batch, batch_idx):
            batch = self.data_shim(batch)
            self.log("val/loss", self.forward_loss(batch), batch_size=2)
            self.render_video_generic(batch)

        def render_video_generic(self, batch):
            self.video_scene = self.encoder.forward(batch["context"])

        def test_step(self, batch, batch_idx):
            self.forward_loss(self.data_shim(batch))

        def configure_optimizers(self):
            self.optimized = [name for name, _ in self.named_parameters()]
            if not self.names_decide:
                return torch.optim.Adam(self.parameters(), lr=1e-3)
            groups = [
                {"params": [p for n, p in self.named_parameters() if "to_gaussians" in n], "lr": 2e-3},
                {"params": [p for n, p in self.named_parameters() if "to_gaussians" not in n], "lr": 2e-4},
            ]
            optimizer = torch.optim.AdamW(groups)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [2e-3, 2e-4], 10)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return ModelWrapper


def batch(seed: int = 0) -> dict:
    context = stub.context()
    context["extrinsics"] = torch.eye(4).repeat(stub.B, stub.V, 1, 1)
    context["extrinsics"][:, 1, 0, 3] = 0.05
    target = dict(context)
    generator = torch.Generator().manual_seed(seed)
    smooth = 0.3 + 0.4 * torch.rand(stub.B, stub.V, 3, 1, 1, generator=generator).expand(-1, -1, -1, stub.H, stub.W)
    context["image"], target["image"] = smooth.clone(), smooth.clone()
    return {"context": context, "target": target, "scene": [f"scene{seed}_{i}" for i in range(stub.B)]}


class Batches(torch.utils.data.Dataset):
    def __init__(self, count: int, same: bool) -> None:
        self.count, self.same = count, same

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        return batch(0 if self.same else index)


def loader(count: int, same: bool = False):
    return torch.utils.data.DataLoader(Batches(count, same), batch_size=None)


def run_context(adapter, say=print, call_hook=lambda name, **arguments: None, **settings) -> RunContext:
    """A run's context without a session."""
    parsed = PluginSettings.parse({"inner_steps": 2, "version": "test", "lpips": "off", **settings})
    return RunContext(parsed, adapter, {}, say, call_hook, lambda error: say(f"error: {error}"))


@contextmanager
def plugged_in(
    wrapper_class: type, folder: Path | None = None, adapter_class: type = StubAdapter, said=None, **settings
):
    """The plugin in force on a class; yields the list of what it said."""
    said = [] if said is None else said
    adapter = adapter_class()
    adapter.folder = folder or Path(".")
    context = run_context(adapter, said.append, log_every=1, **settings)
    patches = Patches()
    for patch in wrapper_patches(context, wrapper_class):
        patches.apply(patch)
    try:
        yield said
    finally:
        patches.revert()


def make_trainer(namespace, folder: Path, **options):
    return namespace.Trainer(
        **{
            "max_steps": 3,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 0.5,
            "default_root_dir": folder,
            **options,
        }
    )
