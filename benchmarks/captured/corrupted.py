"""Captured images corrupted as those of rooms are (exposure, blur, occluder, pose), with the clean ones kept beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diff3r_plugin.data.options import OUTLIER_KINDS
from diff3r_plugin.data.outliers import corrupt, corrupted_pixels
from diff3r_plugin.data.re10k_format import decode_jpeg, encode_jpeg


def with_corrupted(record: dict, kinds: dict[int, str], rng: np.random.Generator) -> tuple[dict, dict[str, Any]]:
    """A record of a chunk with some frames corrupted, and what was done to them.

    Args:
        record: Clean; in the units in which lengths of wrong poses are drawn (nearest depth about 1).
        kinds: Frame -> kind.
        rng: Draws how much.

    Returns:
        The record with its ``clean`` entry, and frame -> note as `data.outliers` writes it.
    """
    cameras, images = record["cameras"].clone(), list(record["images"])
    notes, masks, frames = {}, [], sorted(kinds)
    for frame in frames:
        pixels = (decode_jpeg(images[frame]).permute(1, 2, 0) * 255).round().byte().numpy()
        pose = np.eye(4)
        pose[:3] = cameras[frame, 6:].reshape(3, 4).double().numpy()
        image, pose, note = corrupt(rng, kinds[frame], pixels, pose)
        images[frame] = torch.from_numpy(np.frombuffer(encode_jpeg(image), np.uint8).copy())
        cameras[frame, 6:] = torch.from_numpy(pose[:3].reshape(12)).to(cameras)
        notes[str(frame)] = note
        masks.append(torch.from_numpy(corrupted_pixels(note, pixels.shape[:2])))
    clean = {
        "frames": torch.tensor(frames, dtype=torch.int64),
        "images": [record["images"][frame] for frame in frames],
        "cameras": record["cameras"][frames].clone(),
        "masks": torch.stack(masks),
    }
    return {**record, "cameras": cameras, "images": images, "clean": clean}, notes


def half_corrupted(record: dict, rng: np.random.Generator) -> dict:
    """A training record with half of its frames corrupted, each in a kind of its own."""
    count = len(record["images"])
    chosen = sorted(rng.choice(count, count // 2, replace=False).tolist())
    return with_corrupted(record, {frame: str(rng.choice(OUTLIER_KINDS)) for frame in chosen}, rng)[0]


def windows_of_each_kind(
    records: dict[str, dict], index: dict[str, dict], seed: int
) -> tuple[dict[str, dict], dict[str, dict], dict[str, dict]]:
    """Every window once for each kind, with one of its context frames corrupted; named ``KIND_WINDOW``.

    Returns:
        Records, index entries and notes (window -> frame -> what was done), by name.
    """
    rng = np.random.default_rng(seed)
    new_records, new_index, notes = {}, {}, {}
    for key, entry in index.items():
        for kind in OUTLIER_KINDS:
            name = f"{kind}_{key}"
            frame = int(rng.choice(entry["context"]))
            record, notes[name] = with_corrupted({**records[key], "key": name}, {frame: kind}, rng)
            new_records[name], new_index[name] = record, entry
    return new_records, new_index, notes
