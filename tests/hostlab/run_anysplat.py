"""Runs AnySplat's main.py, unedited, on a CPU: a shallow VGGT with random weights, generated rooms for its data sets.

    HOSTLAB=1 PYTHONPATH=tests/hostlab/stand_in python tests/hostlab/run_anysplat.py CHECKOUT OUT [WORDS]

Changed in memory: the depth of VGGT (its width of 1024 is written into a head of AnySplat), the camera translations
and fields of view it predicts (with random weights they are no scene), bfloat16, which is float32 here, and the loaders
of its data. Stand-ins: torch_scatter's two functions, by PyTorch's own; xformers, open3d and pytorch3d's chamfer
distance as far as imports go. The host trains two steps and validates if HOSTLAB_VAL asks for it; its test cannot run.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from hostlab_patches.vggt import LAYERS, with_plausible_cameras

SIZE = 56


class Rooms(torch.utils.data.Dataset):
    """Scenes in the form of the host's data sets: two context views and two targets."""

    def __init__(self, scenes: list[dict]) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        scene = self.scenes[index]
        return {"context": views(scene, (2, 10)), "target": views(scene, (5, 7)), "scene": scene["key"]}


def views(scene: dict, frames: tuple[int, ...]) -> dict:
    """Some views as the host's loaders give them."""
    from diff3r_plugin.data.re10k_format import decode_jpeg

    rows = torch.stack([torch.as_tensor(np.asarray(scene["cameras"][frame])) for frame in frames]).float()
    world_to_camera = torch.eye(4).repeat(len(frames), 1, 1)
    world_to_camera[:, :3] = rows[:, 6:].reshape(-1, 3, 4)
    intrinsics = torch.eye(3).repeat(len(frames), 1, 1)
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = rows[:, :4]
    images = [torch.as_tensor(decode_jpeg(scene["images"][frame])) for frame in frames]
    return {
        "image": torch.stack(images),
        "extrinsics": torch.linalg.inv(world_to_camera),
        "intrinsics": intrinsics,
        "near": torch.full((len(frames),), 0.1),
        "far": torch.full((len(frames),), 100.0),
        "index": torch.tensor(frames),
        "overlap": torch.full((1,), 0.5),
        "valid_mask": torch.zeros(len(frames), SIZE, SIZE, dtype=torch.bool),  # no depths: the host takes its teacher's
    }


def rooms(folder: Path) -> list[dict]:
    from diff3r_plugin.data import DataOptions, make_data
    from diff3r_plugin.data.re10k_format import read_split

    make_data(folder, DataOptions(train=3, val=0, test=0, size=SIZE, supersample=1), workers=1, progress=False)
    return list(read_split(folder / "train").values())


class SinglePrecision(ModuleType):
    """PyTorch whose bfloat16 is float32: autocast, which makes the host's heads take the former, is CUDA's."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


def stand_ins() -> None:
    """Modules that the host imports, or that it calls and PyTorch has as well."""

    def scatter_add(values, index, dim):
        index = index.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
        shape = (int(index.max()) + 1, *values.shape[1:])
        return values.new_zeros(shape).scatter_add(dim, index, values)

    def scatter_max(values, index, dim):
        start = values.new_full((int(index.max()) + 1,), -torch.inf)
        return start.scatter_reduce(dim, index, values, "amax"), None

    def module(name: str, **content: object) -> None:
        made = ModuleType(name)
        made.__dict__.update(content)
        sys.modules[name] = made
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, made)

    module("torch_scatter", scatter_add=scatter_add, scatter_max=scatter_max)
    module("xformers", __path__=[])
    module("xformers.ops")
    module("open3d")
    module("pytorch3d", __path__=[])
    module("pytorch3d.loss", chamfer_distance=None)


def shallow(vggt: ModuleType) -> None:
    """Shrink the network, and let it predict a scene that both cameras see."""
    from src.model.encoder.vggt.heads.camera_head import CameraHead
    from src.model.encoder.vggt.heads.dpt_head import DPTHead
    from src.model.encoder.vggt.models.aggregator import Aggregator

    def init(self, img_size=SIZE, patch_size=14, embed_dim=1024):
        torch.nn.Module.__init__(self)
        self.aggregator = Aggregator(
            img_size=img_size, patch_size=patch_size, embed_dim=embed_dim, depth=LAYERS, patch_embed="conv"
        )
        self.camera_head = CameraHead(dim_in=2 * embed_dim, trunk_depth=1)
        self.depth_head = DPTHead(
            dim_in=2 * embed_dim,
            output_dim=2,
            activation="exp",
            conf_activation="expp1",
            intermediate_layer_idx=list(range(LAYERS)),
        )

    vggt.VGGT.__init__ = init
    vggt.VGGT.from_pretrained = classmethod(lambda cls, *given, **named: cls())
    with_plausible_cameras(CameraHead)


def with_figures(trainer: type, scene: dict) -> None:
    """Print what the plugin logged, and how its rendering differs from the host's; the host logs images alone."""
    fit = trainer.fit

    def reporting(self, model, *given, **named):
        fit(self, model, *given, **named)
        logged = {name: float(value) for name, value in self.callback_metrics.items() if name.startswith("diff3r/")}
        print("== logged", {name: round(value, 3) for name, value in sorted(logged.items())})
        if "_diff3r" in vars(model):
            print(f"== our rendering against the host's: {agreement(model, scene):.1f} dB")

    trainer.fit = reporting


@torch.no_grad()
def agreement(model: torch.nn.Module, scene: dict) -> float:
    """PSNR of our rendering of an unrefined scene against the host's, on the context views."""
    from diff3r_plugin.metrics import psnr
    from diff3r_plugin.render import render

    adapter = vars(model)["_diff3r"].context.adapter
    batch = {"context": {"image": views(scene, (2, 10))["image"][None]}}
    output = model.model.encoder(batch["context"]["image"], 0)
    cameras = adapter.context_views(model, batch["context"]["image"], output).replace(images=None)
    ours = render(adapter.gaussians(output, 1), cameras.replace(image_size=(SIZE, SIZE)))
    return float(psnr(adapter.render_context(model, output, batch), ours).min())


def main() -> None:
    checkout, out, *words = sys.argv[1:]
    out_folder = Path(out).resolve()
    out_folder.mkdir(parents=True, exist_ok=True)
    checkout_folder = Path(checkout).resolve()
    stand_ins()
    with tempfile.TemporaryDirectory() as folder:
        scenes = rooms(Path(folder))
    sys.path[0:1] = [str(checkout_folder), str(checkout_folder / "src")]  # as main.py finds itself and adds
    os.chdir(out_folder)
    import src.dataset.data_module as data_module
    import src.model.encoder.anysplat as encoder
    import src.model.encoder.vggt.models.vggt as vggt
    from lightning.pytorch import Trainer

    with_figures(Trainer, scenes[2])
    shallow(vggt)
    encoder.torch = SinglePrecision("torch")

    def train_dataloader(self):
        self.train_loader = torch.utils.data.DataLoader(Rooms(scenes[:2]), batch_size=1)
        return self.train_loader

    def val_dataloader(self):
        self.val_loader = torch.utils.data.DataLoader(Rooms(scenes[2:]), batch_size=1)
        return self.val_loader

    data_module.DataModule.train_dataloader = train_dataloader
    data_module.DataModule.val_dataloader = val_dataloader
    settings = [
        "+experiment=co3d",
        "loss=[mse,depth_consis]",
        "~loss.lpips",
        "wandb.mode=disabled",
        f"model.encoder.intermediate_layer_idx={list(range(LAYERS))}".replace(" ", ""),
        "model.encoder.voxel_size=0.05",
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
        "trainer.precision='32'",
        "train.print_log_every_n_steps=1",
        "checkpointing.every_n_train_steps=1000",  # they have gigabytes
        f"hydra.run.dir={out_folder}/run",
    ]
    sys.argv = [str(checkout_folder / "src" / "main.py"), *settings, *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
