"""The RealEstate10K chunk layout that the pixelSplat family reads and writes.

A split is a folder of chunks (``000000.torch``, ...) and an ``index.json`` that says which chunk holds which scene.
A chunk is a list of scenes, saved with ``torch.save``. A scene is a dictionary:

    key         name of the scene
    url         where it comes from
    timestamps  int64, [frames]
    cameras     float32, [frames, 18]: fx fy cx cy (in units of image width and height), 0, 0, and the 3x4
                world-to-camera matrix row by row, OpenCV axes
    images      list of uint8 tensors, each a whole JPEG file
    depths      float16, [frames, height, width]: z-depth in meters at pixel centers; only where asked for, and no
                part of RealEstate10K (readers of the family ignore it)
    clean       of frames that were corrupted on purpose: frames (int64, [k]), images and cameras before, and
                masks (bool, [k, height, width]) of what was touched; only in splits with corrupted frames
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from diff3r_plugin.atomic import atomic_write


def encode_jpeg(image: UInt8[ndarray, "h w 3"], quality: int = 95) -> bytes:
    """A JPEG file, with full color resolution (small images lose much to chroma subsampling)."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(file: UInt8[Tensor, " bytes"]) -> Float[Tensor, "3 h w"]:
    """The image of a JPEG file held in a uint8 tensor, in [0, 1]."""
    with Image.open(BytesIO(file.numpy().tobytes())) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def camera_rows(
    intrinsics: tuple[float, float, float, float], world_to_camera: Float[ndarray, "frames 4 4"]
) -> Float32[ndarray, "frames 18"]:
    """The ``cameras`` entry of a scene whose frames share their (normalized) intrinsics."""
    rows = np.zeros((len(world_to_camera), 18), np.float32)
    rows[:, :4] = intrinsics
    rows[:, 6:] = world_to_camera[:, :3].reshape(-1, 12)
    return rows


@dataclass(frozen=True)
class Clean:
    """What corrupted frames were before.

    Args:
        frames: Their numbers, k of them.
        images: Each a whole JPEG file.
        cameras: Rows as in ``cameras``, ``[k, 18]``.
        masks: Pixels that were touched, ``[k, height, width]``.
    """

    frames: list[int]
    images: list[bytes]
    cameras: Float32[ndarray, "k 18"]
    masks: Bool[ndarray, "k h w"]


def scene_record(
    key: str,
    url: str,
    cameras: Float32[ndarray, "frames 18"],
    images: list[bytes],
    depths: Float[ndarray, "frames h w"] | None = None,
    clean: Clean | None = None,
    frame_rate: float = 30.0,
) -> dict:
    """One scene of a chunk; timestamps are in microseconds, as in RealEstate10K."""
    stamps = torch.arange(len(images), dtype=torch.int64) * round(1e6 / frame_rate)
    record = {
        "key": key,
        "url": url,
        "timestamps": stamps,
        "cameras": torch.from_numpy(cameras),
        "images": [_bytes_tensor(file) for file in images],
    }
    if depths is not None:
        record["depths"] = torch.from_numpy(depths.astype(np.float16))
    if clean is not None:
        record["clean"] = {
            "frames": torch.tensor(clean.frames, dtype=torch.int64),
            "images": [_bytes_tensor(file) for file in clean.images],
            "cameras": torch.from_numpy(clean.cameras),
            "masks": torch.from_numpy(clean.masks),
        }
    return record


def _bytes_tensor(file: bytes) -> UInt8[Tensor, " bytes"]:
    return torch.from_numpy(np.frombuffer(file, np.uint8).copy())


def write_chunk(folder: Path, number: int, scenes: list[dict]) -> dict[str, str]:
    """Save a chunk; returns its part of the split's index."""
    name = f"{number:06d}.torch"
    with atomic_write(folder / name) as file:
        torch.save(scenes, file)
    return {scene["key"]: name for scene in scenes}


def read_split(folder: Path) -> dict[str, dict]:
    """Every scene of a split, by key, in the order of its index. For small splits: everything is held in memory.

    Raises:
        FileNotFoundError: if the folder has no ``index.json``.
    """
    index_file = folder / "index.json"
    if not index_file.is_file():
        raise FileNotFoundError(f"{index_file} does not exist; expected a split in the RealEstate10K chunk layout.")
    index = json.loads(index_file.read_text())
    scenes: dict[str, dict] = {}
    for chunk in dict.fromkeys(index.values()):
        scenes |= {scene["key"]: scene for scene in torch.load(folder / chunk, weights_only=True)}
    return {key: scenes[key] for key in index}
