"""Posed images of a ``transforms.json``, as nerfstudio, instant-ngp and Blender's NeRF data have it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.conventions import world_to_camera
from diff3r_plugin.io.errors import FileError, reading, tell
from diff3r_plugin.io.image_files import find_images, printable
from diff3r_plugin.io.posed_images import Mask, PosedImages
from diff3r_plugin.io.transforms_intrinsics import intrinsics_of, size_of
from diff3r_plugin.io.transforms_keys import CURE, check_keys, lens_of, number, start_of
from diff3r_plugin.io.world_frames import OLD_APPLIED, applied, moved, nerfstudio_way, similarity
from diff3r_plugin.ranges import require_choice

KIND = "a transforms.json"
World = Literal["file", "original"]
"""Whose world: the file's, or that of the reconstruction which ``applied_transform`` was applied to."""
BLENDER = {"train": "transforms_train.json", "test": "transforms_test.json", "val": "transforms_val.json"}
"""Files of a folder of Blender's NeRF data, by split."""


@dataclass(frozen=True)
class _Frame:
    """One frame with what holds for all of its file.

    Args:
        path: The file.
        keys: The file's and the frame's, the frame's first.
        own: The frame's alone.
        split: "train", "val", "test" or "".
    """

    path: Path
    keys: Mapping[str, Any]
    own: Mapping[str, Any]
    split: str

    @property
    def name(self) -> str:
        return self.own["file_path"]


def read_transforms_json(
    path: Path | str, images: Path | str | None = None, world: World | Path = "file"
) -> PosedImages:
    """The images and cameras of a ``transforms.json``; in the file, cameras have OpenGL axes and pixel intrinsics.

    Which file is the image of a name: :mod:`~diff3r_plugin.io.image_files`. Masks (``mask_path``, ``dynamic_mask_*``)
    become pixel weights, lists of file names (``test_filenames``, and the files of Blender's data) splits.

    Args:
        path: The file, or the folder it lies in; or a folder of Blender's data (``transforms_train.json`` ...).
        images: Folder of the images, where they do not lie where the file says.
        world: "file"; "original" to undo ``applied_transform`` and ``applied_scale``, for Gaussians that live in the
            world of the COLMAP model it was made from; or nerfstudio's ``dataparser_transforms.json``, for splats that
            nerfstudio trained on this file.

    Raises:
        FileError: if the file is damaged, or its images are of a kind that no pinhole can show. Images that are missing
            are told of where they are asked for, and lenses that distort are kept; see
            :meth:`PosedImages.require_images` and :meth:`PosedImages.undistorted`.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``, where sizes have to be read from images.
    """
    if not isinstance(world, Path):
        require_choice("world", world, get_args(World))
    path = Path(path)
    frames, contents = _frames(path)
    file = frames[0].path
    with reading(file, KIND, CURE):
        folder = None if images is None else Path(images)
        files, problems = _files(frames, folder)
        sizes, matrices, poses = [], [], []
        for index, frame in enumerate(frames):
            size, problem = size_of(frame.path, frame.keys, files[index], problems[index])
            problems[index] = problem
            sizes.append(size)
            matrices.append(intrinsics_of(frame.path, frame.keys, size))
            poses.append(_matrix(frame.path, start_of(frame.own)))
        posed = PosedImages(
            path if len(contents) > 1 else file,
            tuple(printable(frame.name) for frame in frames),
            tuple(files),
            world_to_camera(torch.stack(poses), "opengl"),
            torch.stack(matrices),
            tuple(sizes),
            tuple(lens_of(frame.path, frame.keys) for frame in frames),
            masks=_masks(frames, files, problems),
            problems=tuple(problems),
            splits=tuple(frame.split for frame in frames),
        )
        return posed if world == "file" else moved(posed, way_to(file, contents[0], world, posed))


def way_to(file: Path, content: Mapping[str, Any], world: World | Path, posed: PosedImages) -> Float[Tensor, "4 4"]:
    """From the world of a ``transforms.json`` to another one.

    Raises:
        FileError: if what says so is damaged.
    """
    if world == "file":
        return torch.eye(4, dtype=torch.float64)
    done = applied(dict(content), file)
    if world == "original":
        return torch.linalg.inv(done)
    maybe = [done]
    if "applied_transform" not in content:
        maybe.append(done @ similarity([list(row) for row in OLD_APPLIED], file, "applied_transform"))
    return nerfstudio_way(Path(world), maybe, posed)


def content_of(path: Path) -> dict[str, Any]:
    """What a file says, in any of JSON's encodings, with or without a byte order mark.

    Raises:
        FileError: if it is no JSON object.
    """
    with reading(path, KIND, CURE):
        raw = path.read_bytes()
        try:
            content = json.loads(raw)
        except UnicodeDecodeError:
            content = json.loads(raw.decode("utf-8-sig", "surrogateescape"))
        if not isinstance(content, dict):
            raise FileError(path, "it has no list of frames.", CURE)
        return content


def transforms_files(path: Path) -> dict[Path, str]:
    """The files that a path stands for and the split that each is of; none where it is something else."""
    if path.suffix.lower() == ".json":
        return {path: ""}
    if (path / "transforms.json").is_file():
        return {path / "transforms.json": ""}
    found = {split: path / name for split, name in BLENDER.items() if (path / name).is_file()}
    if "test" in found:
        found.pop("val", None)
    return {file: split for split, file in found.items()}


def _frames(path: Path) -> tuple[list[_Frame], list[dict[str, Any]]]:
    files = transforms_files(path) or {path / "transforms.json" if path.is_dir() else path: ""}
    found, contents = [], []
    for file, split in files.items():
        content = content_of(file)
        own = content.get("frames")
        if not isinstance(own, list) or not own or not all(isinstance(frame, dict) for frame in own):
            raise FileError(file, "it has no list of frames.", CURE)
        for frame in own:
            name = frame.get("file_path")
            if not isinstance(name, str) or not name or "\0" in name:
                raise FileError(file, f"a frame has no file_path, but {name!r}.", CURE)
        own = _first_frames(file, content, own)
        check_keys(file, content, own)
        splits = [split] * len(own) if split else _splits(file, content, own)
        found += [_Frame(file, {**content, **frame}, frame, s) for frame, s in zip(own, splits, strict=True)]
        contents.append(content)
    if len(contents) > 1:
        counts = ", ".join(f"{sum(f.path == file for f in found)} of {file.name}" for file in files)
        tell(path, f"it has several files of frames; read are {counts}.")
    return found, contents


def _first_frames(path: Path, content: Mapping[str, Any], frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``n_frames``, by which instant-ngp leaves out the last ones."""
    if content.get("n_frames") is None:
        return frames
    count = int(number(path, content, "n_frames"))
    if 0 < count < len(frames):
        tell(path, f"n_frames={count}: of its {len(frames)} frames the first {count} are used.")
        return frames[:count]
    return frames


def _splits(path: Path, content: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """``train_filenames`` and so on; a frame for training is one for testing only if it is in no list for training."""
    of_name: dict[str, str] = {}
    for split in ("test", "val", "train"):
        names = content.get(f"{split}_filenames")
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FileError(path, f"{split}_filenames must be a list of names, got {names!r:.80}.", CURE)
        of_name |= {os.path.normpath(name): split for name in names}
    known = {os.path.normpath(frame["file_path"]) for frame in frames}
    unknown = sorted(of_name.keys() - known)
    if unknown:
        tell(path, f"its lists of file names have {len(unknown)} that no frame has, the first is {unknown[0]!r}.")
    return [of_name.get(os.path.normpath(frame["file_path"]), "") for frame in frames]


def _files(frames: Sequence[_Frame], images: Path | None) -> tuple[list[Path], list[FileError | None]]:
    """Of each file of frames by itself, as their names may have different folders in front."""
    found: dict[int, tuple[Path, FileError | None]] = {}
    for path in dict.fromkeys(frame.path for frame in frames):
        numbers = [number for number, frame in enumerate(frames) if frame.path == path]
        files, problems = find_images(path, [frames[i].name for i in numbers], path.parent, images)
        found |= dict(zip(numbers, zip(files, problems, strict=True), strict=True))
    return [found[i][0] for i in range(len(frames))], [found[i][1] for i in range(len(frames))]


def _masks(
    frames: Sequence[_Frame], files: Sequence[Path], problems: list[FileError | None]
) -> tuple[Mask | None, ...]:
    """``mask_path`` of frames (black does not count), or instant-ngp's ``dynamic_mask_STEM.png`` (white does not)."""
    masks: list[Mask | None] = []
    for index, frame in enumerate(frames):
        name = frame.own.get("mask_path")
        dynamic = files[index].with_name(f"dynamic_mask_{files[index].stem}.png")
        if name is None:
            masks.append(Mask(dynamic, "white") if dynamic.is_file() else None)
            continue
        if not isinstance(name, str) or not name or "\0" in name:
            raise FileError(frame.path, f"mask_path must be the name of a file, got {name!r}.", CURE)
        (file,), (problem,) = find_images(frame.path, [name], frame.path.parent)
        masks.append(Mask(file))
        problems[index] = problems[index] or problem
    return tuple(masks)


def _matrix(path: Path, value: Any) -> Float[Tensor, "4 4"]:
    rows = torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else torch.empty(0)
    if tuple(rows.shape) not in ((3, 4), (4, 4)):
        raise FileError(path, "transform_matrix must be a matrix of 3 x 4 or 4 x 4 numbers.", CURE)
    return rows if len(rows) == 4 else torch.cat([rows, rows.new_tensor([[0.0, 0.0, 0.0, 1.0]])])
