"""Data roots of captured scenes: their windows, other numbers of views, and augmented splits for trainings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.captured.augmentation import Augmentation, crop, jitter
from benchmarks.captured.corrupted import half_corrupted
from diff3r_plugin.data.re10k_format import decode_jpeg, encode_jpeg, read_split, scene_record, write_chunk
from diff3r_plugin.demo import data
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.strict_json import write_json

CHUNK = 48
"""Scenes a chunk: a training reads one whole, so that its order of scenes is that of all."""

MOST_FRAMES = 13
"""Of an augmented window; longer ones are thinned evenly."""


@dataclass(frozen=True)
class CapturedOptions:
    """How captured scenes become training data.

    Args:
        roots: Name -> data root with a ``train`` split.
        without: Scenes that are kept out, as they choose.
        variants: Augmented windows of each scene.
        size: Side of their images, pixels.
        near: Depth in the data's units that the host's sweep begins at: worlds are divided by it.
        seed: Of all that is drawn.
        augmentation: What is drawn.
    """

    roots: dict[str, Path]
    without: tuple[str, ...] = ()
    variants: int = 40
    size: int = 64
    near: float = 1.8
    seed: int = 7001
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.variants < 1 or self.size < 8 or self.near <= 0:
            raise ValueError(
                f"variants must be at least 1, size at least 8 and near positive; got {self.variants}, {self.size}, "
                f"{self.near:g}."
            )

    def record(self) -> dict[str, object]:
        """Plain values, with the roots by name alone."""
        return {**asdict(self), "roots": sorted(self.roots), "without": list(self.without)}


def named_root(text: str) -> tuple[str, Path]:
    """NAME=ROOT of a command line."""
    name, equals, root = text.partition("=")
    if not (name and equals and root):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ROOT, like fox=DATA/fox_re10k")
    return name, Path(root)


def gaps(root: Path, scenes: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Least and greatest distance of the outer context frames in each scene's evaluation windows, in frames.

    Scenes without windows take the median of all; roots without an index 4.
    """
    found: dict[str, list[int]] = {}
    for name in ("evaluation_index_test.json", "evaluation_index.json"):
        if (root / name).is_file():
            for key, views in json.loads((root / name).read_text(encoding="utf-8")).items():
                found.setdefault(key.rpartition("_")[0], []).append(max(views["context"]) - min(views["context"]))
            break
    every = sorted(gap for listed in found.values() for gap in listed) or [4]
    usual = every[len(every) // 2]
    return {scene: (min(found.get(scene, [usual])), max(found.get(scene, [usual]))) for scene in scenes}


def augmented(
    scene: dict, width: tuple[int, int], options: CapturedOptions, rng: np.random.Generator, key: str
) -> dict:
    """One window of a scene with everything drawn anew, as a record of a chunk.

    Args:
        scene: Record of the whole scene.
        width: Least and greatest width of its windows in frames; up to one and a half of them are drawn.
        options: What is drawn.
        rng: Draws it.
        key: Name of the record.
    """
    count = len(scene["images"])
    most = min(max(round(1.5 * width[1]), 3), count - 1)
    wide = int(rng.integers(min(max(width[0], 3), most), most + 1))
    first = int(rng.integers(0, count - wide))
    frames = np.linspace(first, first + wide, min(wide + 1, MOST_FRAMES)).round().astype(int)
    if rng.random() < 0.5:
        frames = frames[::-1]
    images = torch.stack([decode_jpeg(scene["images"][frame]) for frame in frames.tolist()])
    height, wide_px = images.shape[-2:]
    cameras = scene["cameras"][frames.copy()].clone()
    focal = (float(cameras[:, 0].mean()) * wide_px, float(cameras[:, 1].mean()) * height)
    drawn = options.augmentation
    share = 1.0 if rng.random() < drawn.whole else rng.uniform(drawn.zoom, 1)
    side = share * min(height, wide_px)
    place = tuple(float(rng.uniform(-1, 1) * (extent - side) / 2) for extent in (wide_px, height))
    images, new_focal, rotation = crop(images, focal, side, (place[0], place[1]), options.size)
    images = jitter(images, rng, drawn)
    poses = rotation @ cameras[:, 6:].reshape(-1, 3, 4)
    poses[:, :, 3] *= float(drawn.scale ** rng.uniform(-1, 1)) / options.near
    rows = np.zeros((len(frames), 18), np.float32)
    rows[:, :4] = (*new_focal, 0.5, 0.5)
    rows[:, 6:] = poses.reshape(-1, 12).numpy()
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return scene_record(key, scene.get("url", ""), rows, [encode_jpeg(image) for image in pixels])


def rescaled(scene: dict, near: float) -> dict:
    """The record with its world divided by ``near``."""
    cameras = scene["cameras"].clone()
    cameras[:, [9, 13, 17]] /= near
    return {**scene, "cameras": cameras}


def at_size(scene: dict, size: int) -> dict:
    """The record with its images scaled and cut to squares as the host does it, so that masks of pixels fit them."""
    images = torch.stack([decode_jpeg(file) for file in scene["images"]])
    height, width = images.shape[-2:]
    cameras = scene["cameras"].clone()
    focal = (float(cameras[:, 0].mean()) * width, float(cameras[:, 1].mean()) * height)
    cropped, new_focal, _ = crop(images, focal, min(height, width), (0.0, 0.0), size)
    cameras[:, :4] = torch.tensor((*new_focal, 0.5, 0.5))
    pixels = (cropped.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return scene_record(scene["key"], scene.get("url", ""), cameras.numpy(), [encode_jpeg(image) for image in pixels])


def write_split(folder: Path, scenes: Sequence[dict], chunk: int = CHUNK) -> None:
    """A split of these records, ``chunk`` to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    for number, start in enumerate(range(0, len(scenes), chunk)):
        index |= write_chunk(folder, number, list(scenes[start : start + chunk]))
    write_json(folder / "index.json", index)


def training_split(folder: Path, options: CapturedOptions, rooms: Sequence[dict] = (), corrupted: bool = False) -> None:
    """Augmented windows of all training scenes, mixed with ``rooms``.

    Args:
        folder: To write.
        options: Of the windows.
        rooms: Records of rooms; their depths are left out, as batches hold both kinds.
        corrupted: Whether half of the captured frames are corrupted.

    Raises:
        ValueError: if ``without`` names a scene that no root has, or none is left.
    """
    rng = np.random.default_rng(options.seed)
    records: list[dict] = [{name: value for name, value in room.items() if name != "depths"} for room in rooms]
    seen: set[str] = set()
    for label, root in sorted(options.roots.items()):
        scenes = read_split(root / "train")
        seen |= set(scenes)
        widths = gaps(root, scenes)
        for name, scene in scenes.items():
            if name not in options.without and len(scene["images"]) >= 4:
                records += [
                    augmented(scene, widths[name], options, rng, f"{label}_{name}_{k:03d}")
                    for k in range(options.variants)
                ]
    if unknown := set(options.without) - seen:
        raise ValueError(f"No root has the scenes {sorted(unknown)}; there are {sorted(seen)}.")
    if len(records) == len(rooms):
        raise ValueError(f"No training scene is left of {sorted(seen)} without {sorted(options.without)}.")
    if corrupted:
        records = records[: len(rooms)] + [half_corrupted(record, rng) for record in records[len(rooms) :]]
    write_split(folder, [records[k] for k in rng.permutation(len(records)).tolist()])


def windows(
    root: Path, out: Path, near: float, views: int = 2, only: Sequence[str] = (), most: int | None = None
) -> TestData:
    """Evaluation windows in the host's units, written to ``out``.

    Two context views take the root's own windows. More of them take windows of their own, cut from the whole scenes of
    the ``train`` split: ``views`` + 3 neighboring frames, three of them targets, evenly between; windows that do
    not overlap, and no more than three a scene, evenly placed.

    Args:
        root: Data root.
        out: Folder to write.
        near: Depth in the data's units that becomes 1.
        views: Context views, at least 2.
        only: Scenes to keep; all by default.
        most: Windows of each scene, evenly picked; all by default.

    Raises:
        ValueError: if no window is left.
    """
    if views == 2:
        place = data.windows(root, out / "cut")
        records, index = read_split(place.root / place.split), json.loads(place.index.read_text(encoding="utf-8"))
    else:
        split = "train" if (root / "train" / "index.json").is_file() else "test"
        records, index = wider_windows(read_split(root / split), views)
    kept = {key: index[key] for key in evenly(index, most) if not only or scene_of(key) in only}
    if not kept:
        raise ValueError(f"{root} has no window of {views} context views among {sorted(set(map(scene_of, index)))}.")
    write_split(out / "test", [rescaled(records[key], near) for key in kept])
    write_json(out / "evaluation_index_test.json", kept)
    return TestData(out, out / "evaluation_index_test.json")


def evenly(windows: Iterable[str], most: int | None) -> list[str]:
    """At most so many windows of each scene, evenly picked, in their order.

    Example:
        >>> from benchmarks.captured.roots import evenly
        >>> evenly(["a_0", "a_1", "a_2", "b_0"], 2)
        ['a_0', 'a_2', 'b_0']
    """
    by_scene: dict[str, list[str]] = {}
    for window in windows:
        by_scene.setdefault(scene_of(window), []).append(window)
    picked: list[str] = []
    for names in by_scene.values():
        count = len(names) if most is None else min(most, len(names))
        picked += [names[k] for k in np.linspace(0, len(names) - 1, count).round().astype(int).tolist()]
    return picked


def scene_of(window: str) -> str:
    """The scene that a window was cut from: ``fern`` of ``fern_02``.

    Example:
        >>> from benchmarks.captured.roots import scene_of
        >>> scene_of("bm_cippus_01")
        'bm_cippus'
    """
    return window.rpartition("_")[0] or window


def wider_windows(scenes: dict[str, dict], views: int, targets: int = 3, most: int = 3) -> tuple[dict, dict]:
    """Windows with more context views, cut from whole scenes: records and index entries by name."""
    length = views + targets
    between = np.linspace(0, length - 1, targets + 2).round().astype(int)[1:-1].tolist()
    records, index = {}, {}
    for name, scene in scenes.items():
        count = len(scene["images"])
        if count < length:
            continue
        fitting = min(count // length, most)
        for number, start in enumerate(np.linspace(0, count - length, fitting).round().astype(int).tolist()):
            key, frames = f"{name}_{number:02d}", slice(start, start + length)
            part = {n: scene[n][frames] for n in ("cameras", "images", "timestamps")}
            records[key] = {**scene, **part, "key": key}
            index[key] = {"context": [f for f in range(length) if f not in between], "target": between}
    return records, index
