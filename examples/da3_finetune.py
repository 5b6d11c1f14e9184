"""Fine-tune Depth Anything 3's Gaussian head for what it gives after refinement; its repository has no training loop.

    python examples/da3_finetune.py DATA --model depth-anything/DA3-GIANT-1.1 --steps 2000
    python examples/da3_finetune.py --smoke

DATA holds `train` and `test` in RealEstate10K's chunk layout. The model predicts Gaussians *and* cameras from images
alone; the data's cameras serve to place the held-out views among the predicted ones (a similarity). Needs
`pip install -e ".[training]"` and github.com/ByteDance-Seed/Depth-Anything-3 (Apache-2.0, read at 2c21ea8).

The Gaussian head is trained, the rest stays as it is. Cameras could not be trained through this code as it stands: it
turns the harmonics by an SVD of rotations, whose derivative is not finite.

`--smoke` takes four steps with random weights on generated rooms. Where `depth_anything_3` can be imported, the network
is its own classes, narrow; otherwise a stand-in that answers in the same form. The first line says which.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from diff3r_plugin import Gaussians, TTOConfig, UncertaintyHead, Views
from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.training import Batch, ChunkScenes, FineTuning, Prediction

PATCH = 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what its backbone was trained with


class DepthAnything3Gaussians(nn.Module):
    """From context views to Gaussians and cameras, by a network with Depth Anything 3's interface.

    Args:
        net: ``DepthAnything3Net`` with a Gaussian head: its ``forward``, not the inference-only one of the API class.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, context: Views) -> Prediction:
        images = context.given_images
        mean, std = (images.new_tensor(value)[:, None, None] for value in (MEAN, STD))
        output: Any = self.net((images - mean) / std, infer_gs=True)
        scene = output.gaussians  # standard deviations and wxyz quaternions in the predicted world, usual harmonics
        gaussians = Gaussians.from_scales(
            scene.means, scene.scales, scene.rotations, scene.opacities.flatten(1), scene.harmonics
        )
        cameras = torch.eye(4).to(output.extrinsics).repeat(*images.shape[:2], 1, 1)
        cameras[..., :3, :] = output.extrinsics[..., :3, :]
        return Prediction(gaussians, cameras, output.intrinsics)


def pretrained(name: str) -> nn.Module:
    """The network of a released model."""
    from depth_anything_3.api import DepthAnything3

    net = DepthAnything3.from_pretrained(name).model
    net = getattr(net, "da3", net)  # nested models hold one for metric depth as well
    if net.gs_head is None:
        raise SystemExit(f"{name} has no Gaussian head; DA3-GIANT and DA3NESTED-GIANT-LARGE have one.")
    return net


def narrow() -> nn.Module:
    """Depth Anything 3's own classes with its smallest backbone, narrow heads and random weights."""
    from depth_anything_3.model.cam_dec import CameraDec
    from depth_anything_3.model.cam_enc import CameraEnc
    from depth_anything_3.model.da3 import DepthAnything3Net
    from depth_anything_3.model.dinov2.dinov2 import DinoV2
    from depth_anything_3.model.dualdpt import DualDPT
    from depth_anything_3.model.gs_adapter import GaussianAdapter
    from depth_anything_3.model.gsdpt import GSDPT

    adapter = GaussianAdapter(sh_degree=2, pred_offset_depth=True)
    heads: dict[str, Any] = {"features": 32, "out_channels": [32, 32, 32, 32]}
    net = DepthAnything3Net(
        DinoV2("vits", [5, 7, 9, 11], alt_start=4, qknorm_start=4, rope_start=4),
        DualDPT(768, output_dim=2, **heads),
        CameraDec(768),
        CameraEnc(384),
        GSDPT(768, output_dim=adapter.d_in + 1, **heads),
        adapter,
    )
    with torch.no_grad():  # random weights give no cameras that see anything: these look ahead, sixty degrees wide
        for layer, bias in ((net.cam_dec.fc_qvec, [0.0, 0, 0, 1]), (net.cam_dec.fc_fov[0], [1.0, 1.0])):
            layer.weight.mul_(0.01)
            layer.bias.copy_(torch.tensor(bias))
    return net


class StandIn(nn.Module):
    """A few layers that answer in the form of ``DepthAnything3Net``."""

    def __init__(self) -> None:
        super().__init__()
        self.gs_head = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 6, 1))

    def forward(self, images: torch.Tensor, infer_gs: bool) -> SimpleNamespace:
        B, V, _, H, W = images.shape
        raw = self.gs_head(images.flatten(0, 1)).unflatten(0, (B, V)).permute(0, 1, 3, 4, 2)
        K = images.new_tensor([[W, 0, W / 2], [0, W, H / 2], [0, 0, 1]])
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        rays = torch.stack([x, y, torch.ones_like(x)], -1).to(images) @ torch.linalg.inv(K).mT
        cameras = torch.eye(4).to(images).repeat(B, V, 1, 1)
        cameras[..., 0, 3] = -0.1 * torch.arange(V).to(images)
        means = (rays * raw[..., :1].exp() - cameras[:, :, None, None, :3, 3]).flatten(1, 3)
        scene = SimpleNamespace(
            means=means,
            scales=(0.7 / W * raw[..., :1].exp()).flatten(1, 3).expand(-1, -1, 3),
            rotations=means.new_tensor([1.0, 0, 0, 0]).expand(*means.shape[:2], 4),
            harmonics=raw[..., 1:4].flatten(1, 3)[..., None],
            opacities=raw[..., 4].sigmoid().flatten(1, 3),
        )
        return SimpleNamespace(gaussians=scene, extrinsics=cameras[..., :3, :], intrinsics=K.expand(B, V, 3, 3))


def smoke_network() -> nn.Module:
    """Depth Anything 3's classes if they are there, else the stand-in; says which."""
    torch.manual_seed(0)
    try:
        net = narrow()
        print("smoke: Depth Anything 3's own classes, narrow, random weights")
        return net
    except ImportError as error:
        print(f"smoke: a stand-in, since depth_anything_3 cannot be imported ({error})")
        return StandIn()


def train_the_gaussian_head(net: nn.Module) -> None:
    """Freeze everything else."""
    net.requires_grad_(False)
    net.gs_head.requires_grad_(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with train and test in RealEstate10K's chunk layout")
    parser.add_argument("--smoke", action="store_true", help="a few steps with random weights on generated rooms")
    parser.add_argument("--model", default="depth-anything/DA3-GIANT-1.1", help="released model with a Gaussian head")
    parser.add_argument("--size", type=int, default=252, help=f"side of the square images, a multiple of {PATCH}")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--inner-steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--lpips", type=float, default=0.05, help="weight of the LPIPS loss; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=Path("outputs/da3_finetune"))
    parser.add_argument("--resume", type=Path, help="checkpoint to resume from")
    given = parser.parse_args()
    if given.size % PATCH:
        parser.error(f"--size must be a multiple of {PATCH}, got {given.size}")
    if given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            make_data(folder, DataOptions(train=3, val=0, test=1, size=48, supersample=1), workers=1, progress=False)
            given.data, given.size, given.steps, given.inner_steps, given.lpips = Path(folder), 4 * PATCH, 4, 2, 0.0
            tune(given, smoke_network(), gap=(4, 8))
    elif given.data is None:
        parser.error("give DATA, or --smoke")
    else:
        tune(given, pretrained(given.model), gap=(25, 45))


def tune(given: argparse.Namespace, net: nn.Module, gap: tuple[int, int]) -> None:
    """Validate, train the Gaussian head and ours, validate again; the checkpoint holds network and head."""
    train_the_gaussian_head(net)
    config = TTOConfig(inner_steps=given.inner_steps)
    module = FineTuning(DepthAnything3Gaussians(net), UncertaintyHead(config.groups), config=config, lpips=given.lpips)
    size = (given.size, given.size)
    train = ChunkScenes(given.data / "train", size, gap=gap)
    test = ChunkScenes(given.data / "test", size, gap=gap, shuffle=False)
    loaders = [DataLoader(scenes, batch_size=given.batch, collate_fn=Batch.of) for scenes in (train, test)]
    trainer = Trainer(
        max_steps=given.steps,
        accelerator="auto",
        devices=1,
        gradient_clip_val=0.5,
        default_root_dir=given.out,
        log_every_n_steps=1 if given.smoke else 50,
        num_sanity_val_steps=0,
        logger=not given.smoke,
        enable_progress_bar=not given.smoke,
        callbacks=[ModelCheckpoint(given.out, save_last=True, save_top_k=0)],
    )
    if given.resume is None:
        print("before:", trainer.validate(module, loaders[1], verbose=False))
    trainer.fit(module, *loaders, ckpt_path=given.resume)
    print("after:", trainer.validate(module, loaders[1], verbose=False))
    print(f"checkpoint: {given.out / 'last.ckpt'}")


if __name__ == "__main__":
    main()
