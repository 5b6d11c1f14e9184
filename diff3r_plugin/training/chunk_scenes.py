"""Context and target views from RealEstate10K chunks, one chunk after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import IterableDataset, get_worker_info

from diff3r_plugin.data.re10k_format import decode_jpeg
from diff3r_plugin.training.batch import Batch
from diff3r_plugin.views import Views


class ChunkScenes(IterableDataset[Batch]):
    """Scenes of a split in RealEstate10K's chunk layout, each with views drawn anew in every epoch.

    The first and the last context view lie ``gap`` frames apart, the others evenly between them; targets are drawn from
    the frames in between. Images are resized until they cover the size and cropped to it around the middle.
    Scenes that are too short are left out. Processes and workers share the chunks among them; not all processes get as
    many scenes, so end their epochs by ``limit_train_batches``.

    Args:
        folder: The split, which has an ``index.json``.
        size: (H, W) of the images.
        context_views: How many the network is given.
        target_views: How many it is judged by.
        gap: Least and largest distance in frames between the first and the last context view.
        near: Near plane in the data's units.
        shuffle: Whether to draw other views and another order in every epoch; else every epoch is the same.
        seed: Of the draws.

    Raises:
        ValueError: for numbers that make no sense.
        FileNotFoundError: if the folder has no index.
    """

    def __init__(
        self,
        folder: Path | str,
        size: tuple[int, int],
        *,
        context_views: int = 2,
        target_views: int = 2,
        gap: tuple[int, int] = (25, 45),
        near: float = 0.1,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if context_views < 2 or target_views < 1:
            raise ValueError(f"Two context views and one target are the least, got {context_views} and {target_views}.")
        if not max(context_views, 2) <= gap[0] <= gap[1]:
            raise ValueError(
                f"The gap must be at least {context_views} frames (there must be frames between the context views) "
                f"and not fall, got {gap}."
            )
        self.folder, self.size = Path(folder), size
        self.context_views, self.target_views, self.gap = context_views, target_views, gap
        self.near, self.shuffle, self.seed, self.epoch = near, shuffle, seed, 0
        index = self.folder / "index.json"
        if not index.is_file():
            raise FileNotFoundError(f"{index} does not exist; expected a split in the RealEstate10K chunk layout.")
        self.chunks = sorted(set(json.loads(index.read_text()).values()))

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self._draw_seed())
        self.epoch += 1
        chunks = _of_this_process(self.chunks)
        order = self._order(len(chunks), generator)
        worker = get_worker_info()
        for number in order if worker is None else order[worker.id :: worker.num_workers]:
            draws = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)) + number)
            scenes = torch.load(self.folder / chunks[number], map_location="cpu", weights_only=True)
            for which in self._order(len(scenes), draws):
                if len(scenes[which]["images"]) > self.gap[0]:
                    yield self._scene(scenes[which], draws)

    def _draw_seed(self) -> int:
        """Another one for every epoch where that is wanted: workers are made anew, and know the epoch by their seed."""
        if not self.shuffle:
            return self.seed
        worker = get_worker_info()
        return self.seed + self.epoch + (0 if worker is None else worker.seed - worker.id)

    def _order(self, count: int, generator: torch.Generator) -> list[int]:
        return torch.randperm(count, generator=generator).tolist() if self.shuffle else list(range(count))

    def _scene(self, scene: dict[str, Any], draws: torch.Generator) -> Batch:
        frames = len(scene["images"])
        gap = int(torch.randint(self.gap[0], min(self.gap[1], frames - 1) + 1, (), generator=draws))
        first = int(torch.randint(frames - gap, (), generator=draws))
        context = torch.linspace(first, first + gap, self.context_views).round().long().tolist()
        between = [frame for frame in range(first, first + gap) if frame not in context]
        drawn = torch.randint(len(between), (self.target_views,), generator=draws).tolist()
        targets = [between[number] for number in drawn]
        return Batch(self._views(scene, context), self._views(scene, targets), (str(scene["key"]),))

    def _views(self, scene: dict[str, Any], frames: list[int]) -> Views:
        images, intrinsics = zip(*(self._image(scene, frame) for frame in frames), strict=True)
        cameras = torch.eye(4).repeat(len(frames), 1, 1)
        cameras[:, :3] = scene["cameras"][frames, 6:].float().reshape(-1, 3, 4)
        return Views(cameras[None], torch.stack(intrinsics)[None], torch.stack(images)[None], near=self.near)

    def _image(self, scene: dict[str, Any], frame: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = decode_jpeg(scene["images"][frame])
        (height, width), (rows, columns) = image.shape[-2:], self.size
        factor = max(rows / height, columns / width)
        scaled = (max(round(height * factor), rows), max(round(width * factor), columns))
        image = functional.interpolate(image[None], scaled, mode="bilinear", antialias=True, align_corners=False)[0]
        top, left = (scaled[0] - rows) // 2, (scaled[1] - columns) // 2
        image = image[:, top : top + rows, left : left + columns].clamp(0, 1)
        fx, fy, cx, cy = scene["cameras"][frame, :4].tolist()
        matrix = [[fx * scaled[1], 0, cx * scaled[1] - left], [0, fy * scaled[0], cy * scaled[0] - top], [0, 0, 1]]
        return image, torch.tensor(matrix, dtype=torch.float32)


def _of_this_process(chunks: list[str]) -> list[str]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return chunks[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
    return chunks
