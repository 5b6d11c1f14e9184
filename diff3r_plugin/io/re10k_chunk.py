"""Posed images of a scene in a RealEstate10K chunk, as the pixelSplat family stores it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin.io.conventions import pixel_intrinsics, require_rigid
from diff3r_plugin.io.errors import FileError, reading
from diff3r_plugin.io.images import image_size
from diff3r_plugin.io.posed_images import PosedImages

KIND, CURE = "a RealEstate10K chunk", "Give a .torch file as pixelSplat's data has them, or copy it again."


def read_re10k_chunk(path: Path | str, key: str | None = None) -> PosedImages:
    """The images and cameras of one scene. Intrinsics in the file are normalized, axes are OpenCV's.

    Args:
        path: A chunk (``000000.torch``), or the folder of a split with its ``index.json``, of which the key is needed.
        key: Name of the scene; may be left out where there is one only.

    Raises:
        FileError: if the file is damaged or something else, or there is no such scene.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    path = Path(path)
    with reading(path, KIND, CURE):
        if path.is_dir():
            path = _chunk_of(path, key)
        scenes = _scenes(path)
        keys = [str(scene.get("key")) for scene in scenes]
        if key is None and len(scenes) != 1:
            raise FileError(path, f"it holds {len(scenes)} scenes: {_some(keys)}.", f"Name one: {path}:KEY.")
        if key is not None and key not in keys:
            raise FileError(path, f"it holds no scene {key!r}, but {_some(keys)}.", "Name one of these.")
        return _posed_images(path, scenes[0 if key is None else keys.index(key)])


def _chunk_of(folder: Path, key: str | None) -> Path:
    index = folder / "index.json"
    if not index.is_file():
        raise FileError(folder, "it has no index.json.", "Give a split's folder, or one of its .torch files.")
    content = json.loads(index.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise FileError(index, "it is no index of scenes.", CURE)
    if key is None or key not in content:
        raise FileError(
            folder, f"there is no scene {key!r} in it, but {_some(list(content))}.", f"Name one: {folder}:KEY."
        )
    if Path(content[key]).name != content[key]:
        raise FileError(index, f"it names a chunk outside of the folder, {content[key]!r}.", CURE)
    return folder / content[key]


def _scenes(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > os.path.getsize(path) or archive.testzip() is not None:
            raise FileError(path, "its parts do not have the sizes or the contents that it says.", "Copy it again.")
    scenes = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(scenes, list) or not all(isinstance(scene, dict) for scene in scenes):
        raise FileError(path, "it holds no list of scenes.", CURE)
    return scenes


def _posed_images(path: Path, scene: dict[str, Any]) -> PosedImages:
    cameras, images = scene.get("cameras"), scene.get("images")
    if not isinstance(cameras, torch.Tensor) or cameras.ndim != 2 or cameras.shape[1] != 18:
        raise FileError(path, "a scene needs cameras of shape [frames, 18].", CURE)
    if not isinstance(images, list) or len(images) != len(cameras):
        raise FileError(path, f"a scene has {len(cameras)} cameras but not as many images.", CURE)
    if not all(isinstance(file, torch.Tensor) and file.dtype == torch.uint8 and file.ndim == 1 for file in images):
        raise FileError(path, "images must be whole files in uint8 tensors.", CURE)
    files = tuple(file.numpy().tobytes() for file in images)
    names = tuple(f"frame {number}" for number in range(len(files)))
    sizes = tuple(image_size(file, f"{path}, {name}") for name, file in zip(names, files, strict=True))
    poses = torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1)
    poses[:, :3] = cameras[:, 6:].double().reshape(-1, 3, 4)
    require_rigid(poses)
    matrices = []
    for row, size in zip(cameras.double().tolist(), sizes, strict=True):
        fx, fy, cx, cy = row[:4]
        matrices.append(pixel_intrinsics(fx, fy, cx, cy, "normalized", size))
    return PosedImages(path, names, files, poses, torch.stack(matrices), sizes)


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
