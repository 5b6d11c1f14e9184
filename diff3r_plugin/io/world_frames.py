"""Worlds that cameras, points and Gaussians of one scene may be given in, and ways between them.

A way is a similarity, ``[4, 4]`` in float64: a rotation times a positive scale, and a translation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.conventions import RIGID_TOLERANCE
from diff3r_plugin.io.errors import FileError, reading
from diff3r_plugin.io.posed_images import PosedImages

FAR = 100.0
"""Distance of the cameras from the origin, in spreads of the cameras, from which coordinates are counted from there:
float32 then keeps less than 1e-5 of the spread."""
FAR_ALONE = 1000.0
"""The same for a single camera, in world units."""
OLD_APPLIED = ((0.0, 1, 0, 0), (1, 0, 0, 0), (0, 0, -1, 0))
"""What nerfstudio's data had applied before it said so (files without ``applied_transform`` of COLMAP models)."""
COLMAP_APPLIED = ((1.0, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0))
"""What nerfstudio's COLMAP data parser applies."""


def moved(posed: PosedImages, way: Float[Tensor, "4 4"]) -> PosedImages:
    """The same images with their cameras in another coordinate frame.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io import PosedImages
        >>> from diff3r_plugin.io.world_frames import moved, shift
        >>> posed = PosedImages("p", ("a",), (b"",), torch.eye(4)[None].double(), torch.eye(3)[None], ((1, 1),))
        >>> moved(posed, shift((5.0, 0, 0))).world_to_camera[0, :3, 3]
        tensor([-5.,  0.,  0.], dtype=torch.float64)
    """
    rotation = way[:3, :3] / scale_of(way)
    old = posed.world_to_camera.double()
    centers = points_moved(camera_centers(posed), way)
    poses = torch.zeros_like(old)
    poses[:, :3, :3] = old[:, :3, :3] @ rotation.mT
    poses[:, :3, 3] = 0.0 - (poses[:, :3, :3] @ centers[..., None])[..., 0]
    poses[:, 3, 3] = 1
    return replace(posed, world_to_camera=poses)


def points_moved(points: Float[Tensor, "N 3"], way: Float[Tensor, "4 4"]) -> Float[Tensor, "N 3"]:
    """Points in another coordinate frame, float64."""
    return points.double() @ way[:3, :3].mT + way[:3, 3]


def camera_centers(posed: PosedImages) -> Float[Tensor, "F 3"]:
    """Where the cameras are, float64.

    Solved for, because a rotation of few digits times a large position is off by more than its transpose tells.
    """
    poses = posed.world_to_camera.double()
    return 0.0 - torch.linalg.solve(poses[:, :3, :3], poses[:, :3, 3])


def scale_of(way: Float[Tensor, "4 4"]) -> float:
    """How much longer things become."""
    return float(torch.linalg.det(way[:3, :3])) ** (1 / 3)


def shift(by: Sequence[float] | Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """The way that only moves."""
    way = torch.eye(4, dtype=torch.float64)
    way[:3, 3] = torch.as_tensor(by, dtype=torch.float64)
    return way


def origin_for(posed: PosedImages) -> Float[Tensor, " 3"] | None:
    """A point amid the cameras to count coordinates from, where they are too far from the origin for float32; or None.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io import PosedImages
        >>> from diff3r_plugin.io.world_frames import moved, origin_for, shift
        >>> poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
        >>> poses[1, 0, 3] = 2.0
        >>> posed = PosedImages("p", ("a", "b"), (b"", b""), poses, torch.eye(3).repeat(2, 1, 1), ((1, 1),) * 2)
        >>> origin_for(posed) is None, origin_for(moved(posed, shift((5e5, 0, 0)))).tolist()
        (True, [499998.0, 0.0, 0.0])
    """
    centers = camera_centers(posed)
    middle = centers.median(0).values
    spread = (
        float((centers - middle).norm(dim=-1).median())
        if len(centers) < 3
        else float((centers - middle).norm(dim=-1).quantile(0.75))
    )
    least = FAR * spread if len(centers) > 1 and spread > 0 else FAR_ALONE
    return middle.round() + 0.0 if float(middle.norm()) > max(least, FAR) else None


def applied(content: dict[str, Any], path: Path) -> Float[Tensor, "4 4"]:
    """What ``applied_transform`` and ``applied_scale`` of a ``transforms.json`` made of the original world.

    Raises:
        FileError: if they are no similarity.
    """
    way = torch.eye(4, dtype=torch.float64)
    if content.get("applied_transform") is not None:
        way = similarity(content["applied_transform"], path, "applied_transform")
    scale = content.get("applied_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not (math.isfinite(scale) and scale > 0):
        raise FileError(path, f"applied_scale must be a positive number, got {scale!r}.", "Correct or remove it.")
    return torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64)) @ way


def similarity(value: Any, path: Path, name: str) -> Float[Tensor, "4 4"]:
    """A matrix of a file as a way.

    Raises:
        FileError: if it is none.
    """
    try:
        rows = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        rows = torch.empty(0)
    if tuple(rows.shape) not in ((3, 4), (4, 4)) or not rows.isfinite().all():
        raise FileError(path, f"{name} must be a matrix of 3 x 4 or 4 x 4 finite numbers.", "Write the file again.")
    way = torch.eye(4, dtype=torch.float64)
    way[: len(rows)] = rows
    scale = abs(float(torch.linalg.det(way[:3, :3]))) ** (1 / 3)
    rotation = way[:3, :3] / max(scale, 1e-300)
    error = float((rotation.mT @ rotation - torch.eye(3, dtype=torch.float64)).abs().max())
    if not error < RIGID_TOLERANCE or float(torch.linalg.det(rotation)) < 0 or way[3].tolist() != [0, 0, 0, 1]:
        raise FileError(
            path,
            f"{name} is no rotation with a scale and a translation: {rows.tolist()}.",
            "Shears and mirror images cannot be applied to cameras; write the file again.",
        )
    return way


def nerfstudio_way(
    file: Path, from_original: Sequence[Float[Tensor, "4 4"]], posed: PosedImages
) -> Float[Tensor, "4 4"]:
    """From the world of the cameras to that of the splats nerfstudio trained, by its ``dataparser_transforms.json``.

    That file goes from the original world. What lies between that and the cameras' own is not always written down: of
    what it can be, the one is taken that puts the cameras around the origin, as nerfstudio does.

    Args:
        file: ``dataparser_transforms.json``, beside a run's configuration.
        from_original: What may have been applied to the original world to get the cameras' own.
        posed: All images.

    Raises:
        FileError: if the file is damaged.
    """
    with reading(file, "nerfstudio's dataparser_transforms.json", "Copy it again from the folder of the run."):
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict) or "transform" not in content:
            raise FileError(file, "it has no 'transform'.", "Give the dataparser_transforms.json of the run.")
        transform = similarity(content["transform"], file, "transform")
        scale = content.get("scale", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not (math.isfinite(scale) and scale > 0):
            raise FileError(file, f"scale must be a positive number, got {scale!r}.", "Copy the file again.")
    ways = []
    for between in from_original:
        stretched = scale / scale_of(between)
        aligned = transform @ torch.linalg.inv(without_scale(between))
        ways.append(torch.diag(torch.tensor([stretched] * 3 + [1.0], dtype=torch.float64)) @ aligned)
    centers = camera_centers(posed)
    return min(ways, key=lambda way: float(points_moved(centers, way).mean(0).norm()))


def without_scale(way: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """The rotation and the translation before the scale."""
    rigid = way.clone()
    rigid[:3] /= scale_of(way)
    return rigid
