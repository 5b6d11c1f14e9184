"""Reader of RealEstate10K chunks: folders of ``.torch`` files that hold lists of scenes, with an ``index.json``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..misc.step_tracker import StepTracker
from .shims.augmentation_shim import apply_augmentation_shim
from .shims.crop_shim import apply_crop_shim
from .types import Stage
from .view_sampler import ViewSampler, ViewSamplerCfg


@dataclass
class DatasetRE10kCfg:
    name: Literal["re10k"]
    roots: list[Path]
    splits: dict[str, str]
    image_shape: list[int]
    background_color: list[float]
    near: float
    far: float
    make_baseline_1: bool
    augment: bool
    view_sampler: ViewSamplerCfg


class DatasetRE10k(IterableDataset):
    """Yields one example per scene and pass: context and target views as `BatchedExample` has them, unbatched."""

    def __init__(
        self, cfg: DatasetRE10kCfg, stage: Stage, view_sampler: ViewSampler, step_tracker: StepTracker, seed: int
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.stage = stage
        self.view_sampler = view_sampler
        self.step_tracker = step_tracker
        self.seed = seed
        self.chunks: list[Path] = []
        for root in cfg.roots:
            folder = root / cfg.splits[stage]
            index_file = folder / "index.json"
            if not index_file.is_file():
                raise FileNotFoundError(
                    f"{index_file} does not exist; set dataset.roots to folders that have a {folder.name} split."
                )
            names = dict.fromkeys(json.loads(index_file.read_text()).values())
            self.chunks += [folder / name for name in names]

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        worker_id, num_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + self.step_tracker.get_step()) * 64 + worker_id
        )
        training = self.stage == "train"
        # In training every worker reads all chunks in its own order; otherwise they share them out.
        chunks = self._shuffled(self.chunks, generator) if training else self.chunks[worker_id::num_workers]
        for path in chunks:
            scenes = torch.load(path, weights_only=True)
            for scene in self._shuffled(scenes, generator) if training else scenes:
                example = self._example(scene, generator)
                if example is not None:
                    yield example

    def _example(self, scene: dict, generator: torch.Generator) -> dict | None:
        extrinsics, intrinsics = convert_poses(scene["cameras"])
        views = self.view_sampler.sample(scene["key"], len(extrinsics), generator)
        if views is None:
            return None
        context, target = views
        baseline = torch.ones(())
        if self.cfg.make_baseline_1:
            baseline = (extrinsics[context[0], :3, 3] - extrinsics[context[-1], :3, 3]).norm()
            if baseline < 1e-3:
                print(f"Skipping {scene['key']}: its context cameras are at one place (baseline {baseline:.1e}).")
                return None
            extrinsics[:, :3, 3] /= baseline
        depths = scene["depths"].float() / baseline if "depths" in scene else None

        def take(index: Tensor, poses: Tensor = extrinsics, images: list = scene["images"]) -> dict:
            taken = {
                "extrinsics": poses[index],
                "intrinsics": intrinsics[index],
                "image": convert_images([images[i] for i in index.tolist()]),
                "near": repeat(torch.tensor(self.cfg.near, dtype=torch.float32), "-> v", v=len(index)),
                "far": repeat(torch.tensor(self.cfg.far, dtype=torch.float32), "-> v", v=len(index)),
                "index": index,
            }
            return taken if depths is None else {**taken, "depth": depths[index]}

        example = {"context": take(context), "target": take(target), "scene": scene["key"]}
        if "clean" in scene:  # context views may be corrupted; what is to be predicted never is
            poses, images, corrupted = undo_corruption(scene, extrinsics, baseline)
            example["target"] = take(target, poses, images)
            example["context"]["corrupted"] = corrupted[context]
        if self.stage == "train" and self.cfg.augment:
            example = apply_augmentation_shim(example, generator)
        return apply_crop_shim(example, (self.cfg.image_shape[0], self.cfg.image_shape[1]))

    @staticmethod
    def _shuffled(items: list, generator: torch.Generator) -> list:
        return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def undo_corruption(
    scene: dict, extrinsics: Float[Tensor, "frame 4 4"], baseline: Float[Tensor, ""]
) -> tuple[Float[Tensor, "frame 4 4"], list[UInt8[Tensor, " _"]], Bool[Tensor, "frame height width"]]:
    """Cameras and images of a scene as they were before frames were corrupted on purpose, and the pixels concerned."""
    clean = scene["clean"]
    poses, images = extrinsics.clone(), list(scene["images"])
    height, width = convert_images(images[:1]).shape[-2:]
    corrupted = torch.zeros((len(images), height, width), dtype=torch.bool)
    cameras, _ = convert_poses(clean["cameras"])
    cameras[:, :3, 3] /= baseline
    for place, frame in enumerate(clean["frames"].tolist()):
        poses[frame], images[frame], corrupted[frame] = cameras[place], clean["images"][place], clean["masks"][place]
    return poses, images, corrupted


def convert_poses(cameras: Float[Tensor, "frame 18"]) -> tuple[Float[Tensor, "frame 4 4"], Float[Tensor, "frame 3 3"]]:
    """Camera-to-world matrices and normalized intrinsics of a scene's ``cameras``."""
    intrinsics = repeat(torch.eye(3), "h w -> f h w", f=len(cameras)).clone()
    fx, fy, cx, cy = cameras[:, :4].T
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 2] = fx, fy, cx, cy
    world_to_camera = repeat(torch.eye(4), "h w -> f h w", f=len(cameras)).clone()
    world_to_camera[:, :3] = rearrange(cameras[:, 6:], "f (h w) -> f h w", h=3, w=4)
    return world_to_camera.inverse(), intrinsics


def convert_images(files: list[UInt8[Tensor, " _"]]) -> Float[Tensor, "view 3 height width"]:
    """Decode JPEG files held in uint8 tensors."""
    images = [np.array(Image.open(BytesIO(file.numpy().tobytes())).convert("RGB")) for file in files]
    return rearrange(torch.from_numpy(np.stack(images)), "v h w c -> v c h w").float() / 255
