"""Runs Splatt3R's main.py, unedited, on a CPU: a narrow MASt3R with random weights, generated rooms for ScanNet++.

    HOSTLAB=1 PYTHONPATH=tests/hostlab/stand_in python tests/hostlab/run_splatt3r.py CHECKOUT OUT [WORDS]

Changed in memory: the sizes of ``AsymmetricMASt3R``, the points it predicts (a plane at depth 3 is added, for with
random weights all points lie at the camera), and the two functions that load ScanNet++. The host then trains two steps,
tests eight times (as it always does) and writes below OUT. Its command neither resumes nor tests a checkpoint:

    HOSTLAB_MODE   train: no tests. test: no training, the tests are of HOSTLAB_CKPT. both (default)
    HOSTLAB_CKPT   a checkpoint, given to Lightning as the host would; training goes on with it (word opt.epochs=2)
    HOSTLAB_VAL, HOSTLAB_LOG   as everywhere: validation batches; a file for the steps
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

SIZE, DEPTH = 64, 3.0
NARROW = {
    "img_size": (SIZE, SIZE),
    "enc_embed_dim": 192,
    "enc_depth": 2,
    "enc_num_heads": 3,
    "dec_embed_dim": 192,
    "dec_depth": 10,  # the least its heads accept
    "dec_num_heads": 3,
}


class Rooms(torch.utils.data.Dataset):
    """Batches' scenes in the form of the host's data set: two context views and three targets."""

    def __init__(self, scenes: list[dict]) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        scene = self.scenes[index]
        views = [view(scene, frame) for frame in (2, 10, 4, 6, 8)]
        return {"context": views[:2], "target": views[2:], "scene": scene["key"]}


def view(scene: dict, frame: int) -> dict:
    """One view as the host's loaders give it."""
    from diff3r_plugin.data.re10k_format import decode_jpeg

    image, row = decode_jpeg(scene["images"][frame]), scene["cameras"][frame]
    world_to_camera, K = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    world_to_camera[:3] = row[6:].reshape(3, 4)
    K[[0, 1, 0, 1], [0, 1, 2, 2]] = row[:4] * SIZE
    return {
        "original_img": image,
        "img": image * 2 - 1,
        "depthmap": scene["depths"][frame].float(),
        "camera_pose": np.linalg.inv(world_to_camera).astype(np.float32),
        "camera_intrinsics": K,
        "true_shape": np.int32([SIZE, SIZE]),
        "valid_mask": np.ones((SIZE, SIZE), bool),
        "pts3d": np.zeros((SIZE, SIZE, 3), np.float32),
        "dataset": "rooms",
        "label": f"rooms/{scene['key']}",
        "instance": str(frame),
        "idx": frame,
    }


def rooms(folder: Path) -> list[dict]:
    from diff3r_plugin.data import DataOptions, make_data
    from diff3r_plugin.data.re10k_format import read_split

    options = DataOptions(train=4, val=0, test=0, size=SIZE, supersample=1, depths=True)
    make_data(folder, options, workers=1, progress=False)
    return list(read_split(folder / "train").values())


def narrow(model: ModuleType, heads: ModuleType) -> None:
    """Shrink the network, and put its points in front of the camera."""
    build, dense = model.AsymmetricMASt3R.__init__, heads.reg_dense_depth

    def init(self, **given):
        build(self, **{**given, **NARROW})

    def reg_dense_depth(xyz, mode):
        points = dense(xyz, mode)
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in points.shape[1:3]), indexing="ij")
        return points + DEPTH * torch.stack([x, y, torch.ones_like(x)], -1)

    model.AsymmetricMASt3R.__init__ = init
    heads.reg_dense_depth = reg_dense_depth


def with_checkpoint(trainer: type) -> None:
    """Let the host train or test alone, from a checkpoint."""
    mode = os.environ.get("HOSTLAB_MODE", "both")
    given = {"ckpt_path": path, "weights_only": False} if (path := os.environ.get("HOSTLAB_CKPT")) else {}
    fit, test = trainer.fit, trainer.test

    def fit_from(self, *args, **kwargs):
        if mode != "test":
            fit(self, *args, **kwargs, **given)

    def test_of(self, *args, **kwargs):
        if mode != "train":
            return test(self, *args, **kwargs, **(given if mode == "test" else {}))

    trainer.fit, trainer.test = fit_from, test_of


def main() -> None:
    checkout, out, *words = sys.argv[1:]
    out_folder = Path(out).resolve()
    out_folder.mkdir(parents=True, exist_ok=True)
    os.chdir(checkout)
    folders = ("", "src/pixelsplat_src", "src/mast3r_src", "src/mast3r_src/dust3r")  # as main.py adds them
    sys.path[0:1] = [str(Path(checkout).resolve() / folder) for folder in folders]
    import data.scannetpp.scannetpp as scannetpp
    import src.mast3r_src.mast3r.model as model
    import workspace
    from lightning.pytorch import Trainer

    with_checkpoint(Trainer)
    narrow(model, sys.modules["mast3r.catmlp_dpt_head"])
    with tempfile.TemporaryDirectory() as folder:
        scenes = rooms(Path(folder))
    scannetpp.get_scannet_dataset = lambda *given, **named: Rooms(scenes[:2])
    scannetpp.get_scannet_test_dataset = lambda *given, **named: Rooms(scenes[2:])
    workspace.save_git_commit_info = lambda path: None
    settings = [
        "use_pretrained=False",
        f"save_dir={out_folder}/${{name}}",
        "loggers.use_wandb=False",
        "data.batch_size=1",
        "data.num_workers=0",
        "opt.epochs=1",
        "devices=[0]",
    ]
    sys.argv = ["main.py", "configs/main.yaml", *settings, *words]
    runpy.run_path("main.py", run_name="__main__")


if __name__ == "__main__":
    main()
