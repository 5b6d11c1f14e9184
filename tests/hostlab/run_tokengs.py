"""Runs TokenGS' train.py or evaluate.py, unedited, on a CPU: a narrow network, generated rooms for its data sets.

    HOSTLAB=1 PYTHONPATH=tests/hostlab/stand_in python tests/hostlab/run_tokengs.py CHECKOUT OUT train|evaluate [WORDS]

Changed in memory: what its data loaders read. Needs ``accelerate tyro safetensors`` besides.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

SIZE, INPUTS, FRAMES = 64, (2, 10), (5, 7)
NARROW = (
    "--img-size 64 64 --enc-depth 1 --dec-depth 1 --enc-embed-dim 64 --enc-num-heads 4 --token-dim 64 "
    "--num-gs-tokens 64 --num-workers 0 --batch-size 1 --num-input-views 2 --num-views 4 --gaussian-z-offset 2.0 "
    "--bg-color grey --mixed-precision no --no-use-wandb --lambda-ssim 0.0"
).split()


class Rooms(torch.utils.data.Dataset):
    """Scenes in the form of the host's data sets; takes the arguments of its provider."""

    scenes: dict[bool, list[dict]] = {}

    def __init__(self, name: str, opt, training: bool, num_repeat: int = 1) -> None:
        self.training = training

    def __len__(self) -> int:
        return len(self.scenes[self.training])

    def set_rng_epoch(self, epoch: int) -> None:
        pass

    def __getitem__(self, index: int) -> dict:
        from tokengs.utils.data import ray_condition

        from diff3r_plugin.data.re10k_format import decode_jpeg

        scene, frames = self.scenes[self.training][index], (*INPUTS, *FRAMES)
        rows = torch.stack([torch.as_tensor(np.asarray(scene["cameras"][frame])) for frame in frames]).float()
        world_to_camera = torch.eye(4).repeat(len(frames), 1, 1)
        world_to_camera[:, :3] = rows[:, 6:].reshape(-1, 3, 4)
        world_to_camera = world_to_camera @ torch.linalg.inv(world_to_camera[:1])
        c2w, intrinsics, count = torch.linalg.inv(world_to_camera), rows[:, :4] * SIZE, len(INPUTS)
        images = torch.stack([torch.as_tensor(decode_jpeg(scene["images"][frame])) for frame in frames])
        plucker, origins, directions = ray_condition(
            intrinsics[None], c2w[None], SIZE, SIZE, device="cpu", flip_flag=None
        )
        cameras, masks = world_to_camera.mT.contiguous(), torch.ones(len(frames), 1, SIZE, SIZE)
        return {
            "input": torch.cat([2 * images - 1, plucker], 1),
            "rays_os": origins,
            "rays_ds": directions,
            "images_all": images,
            "images_input": images[:count],
            "images_output": images[count:],
            "intrinsics_all": intrinsics,
            "intrinsics": intrinsics[count:],
            "intrinsics_input": intrinsics[:count],
            "cam_view_all": cameras,
            "cam_view": cameras[count:],
            "masks_all": masks,
            "masks_output": masks[count:],
            "has_mask": torch.tensor(False),
            "cam_to_world_input": c2w[:count],
            "cam_view_input": cameras[:count],
        }


def main() -> None:
    checkout, out, what, *words = sys.argv[1:]
    folder, workspace = Path(checkout).resolve(), Path(out).resolve()
    workspace.mkdir(parents=True, exist_ok=True)
    from diff3r_plugin.data import DataOptions, make_data
    from diff3r_plugin.data.re10k_format import read_split

    with tempfile.TemporaryDirectory() as rooms:
        options = DataOptions(train=2, val=0, test=3, size=SIZE, supersample=1)
        make_data(Path(rooms), options, workers=1, progress=False)
        for split, training in (("train", True), ("test", False)):
            Rooms.scenes[training] = list(read_split(Path(rooms) / split).values())
    sys.path.insert(0, str(folder))
    os.chdir(workspace)
    import tokengs.data

    tokengs.data.Provider = Rooms
    torch.cuda.mem_get_info = lambda *_: (0, 0)  # printed every ten steps
    preset = ["train_dl3dv_base", "--num-epochs", "1"] if what == "train" else ["eval_dl3dv_2view"]
    sys.argv = [str(folder / "tokengs" / f"{what}.py"), *preset, "--workspace", str(workspace), *NARROW, *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
