"""Small valid files of every format that ``diff3r_plugin.io`` reads, written without it where it only reads."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diff3r_plugin import Gaussians
from diff3r_plugin.gaussians import rotation_matrices

SIZE = (12, 16)
"""(H, W) of all images."""


def scene(count: int = 6, degree: int = 1, dtype: torch.dtype = torch.float32) -> Gaussians:
    """One scene of scales and unit quaternions."""
    generator = torch.Generator().manual_seed(count + degree)
    normal = lambda *shape: torch.randn(1, count, *shape, generator=generator, dtype=dtype)  # noqa: E731
    quats = torch.nn.functional.normalize(normal(4), dim=-1)
    return Gaussians.from_scales(
        normal(3), normal(3).mul(0.3).exp(), quats, normal().sigmoid(), normal(3, (degree + 1) ** 2)
    )


def poses(count: int = 3) -> torch.Tensor:
    """World-to-camera matrices with rotations about all axes, float64."""
    generator = torch.Generator().manual_seed(count)
    matrices = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    matrices[:, :3, :3] = rotation_matrices(torch.randn(count, 4, generator=generator, dtype=torch.float64))
    matrices[:, :3, 3] = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return matrices


def image_bytes(number: int, kind: str = "PNG") -> bytes:
    """A small image whose pixels depend on the number."""
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_images(folder: Path, count: int = 3) -> list[str]:
    """Images ``0.png``, ``1.png``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(image_bytes(number))
    return [f"{number}.png" for number in range(count)]


def write_transforms(folder: Path, count: int = 3, **changes: Any) -> Path:
    """A nerfstudio-like file with its images; ``changes`` replace or (None) remove keys."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / "images", count)
    to_world = torch.linalg.inv(poses(count)) * torch.tensor([1.0, -1, -1, 1])
    content = {
        "fl_x": 20.0,
        "fl_y": 21.0,
        "cx": 8.5,
        "cy": 6.5,
        "w": SIZE[1],
        "h": SIZE[0],
        "frames": [
            {"file_path": f"images/{number}.png", "transform_matrix": matrix.tolist()}
            for number, matrix in enumerate(to_world)
        ],
    }
    content = {key: value for key, value in (content | changes).items() if value is not None}
    path = folder / "transforms.json"
    path.write_text(json.dumps(content))
    return path


def write_chunk(path: Path, keys: tuple[str, ...] = ("room",), count: int = 3) -> Path:
    """A RealEstate10K chunk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cameras = torch.zeros(count, 18)
    cameras[:, :4] = torch.tensor([1.25, 1.75, 0.5, 0.5])
    cameras[:, 6:] = poses(count)[:, :3].reshape(count, 12)
    images = [torch.frombuffer(bytearray(image_bytes(number, "JPEG")), dtype=torch.uint8) for number in range(count)]
    stamps = torch.arange(count)
    torch.save([{"key": key, "timestamps": stamps, "cameras": cameras, "images": images} for key in keys], path)
    return path


def quats(count: int = 3) -> np.ndarray:
    """Those of :func:`poses`."""
    generator = torch.Generator().manual_seed(count)
    raw = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(raw, dim=-1).numpy()


MODELS = {
    name: number
    for number, name in enumerate(
        "SIMPLE_PINHOLE PINHOLE SIMPLE_RADIAL RADIAL OPENCV OPENCV_FISHEYE FULL_OPENCV FOV SIMPLE_RADIAL_FISHEYE "
        "RADIAL_FISHEYE THIN_PRISM_FISHEYE RAD_TAN_THIN_PRISM_FISHEYE SIMPLE_DIVISION DIVISION SIMPLE_FISHEYE FISHEYE "
        "EUCM EQUIRECTANGULAR".split()
    )
}
"""COLMAP's camera models by the numbers in its binary files."""


def seen_points(image: int) -> list[int]:
    """The point at each of an image's corners: all in the first image, some in the second, no corners in others."""
    return [list(range(5)), [0, -1, 2, -1, 4]][image] if image < 2 else []


def write_colmap_binary(
    folder: Path, model: str = "PINHOLE", params: tuple[float, ...] = (20.0, 21.0, 8.5, 6.5), count: int = 3
) -> Path:
    """A model in ``folder/sparse/0`` with its images."""
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    names = write_images(folder / "images", count)
    height, width = SIZE
    camera = struct.pack("<QiiQQ", 1, 7, MODELS[model], width, height) + struct.pack(f"<{len(params)}d", *params)
    (place / "cameras.bin").write_bytes(camera)
    body = struct.pack("<Q", count)
    for number, (name, quat, pose) in enumerate(zip(names, quats(count), poses(count), strict=True)):
        body += struct.pack("<i7di", number + 1, *quat, *pose[:3, 3].tolist(), 7) + name.encode() + b"\0"
        seen = seen_points(number)
        body += struct.pack("<Q", len(seen)) + b"".join(struct.pack("<ddq", 1.0, 2.0, point) for point in seen)
    (place / "images.bin").write_bytes(body)
    points = struct.pack("<Q", 5)
    for number in range(5):
        points += struct.pack("<Q3d3Bd", number, number, 2.0, 3.0, 10 * number, 51, 255, 0.5)
        track = [image + 1 for image in range(count) if number in seen_points(image)]
        points += struct.pack("<Q", len(track)) + b"".join(struct.pack("<ii", image, number) for image in track)
    (place / "points3D.bin").write_bytes(points)
    return folder


def write_colmap_text(folder: Path, count: int = 3) -> Path:
    """The same model as text."""
    place = folder / "sparse"
    place.mkdir(parents=True)
    names = write_images(folder / "images", count)
    height, width = SIZE
    (place / "cameras.txt").write_text(f"# cameras\n7 PINHOLE {width} {height} 20 21 8.5 6.5\n")
    lines = ["# images"]
    for number, (name, quat, pose) in enumerate(zip(names, quats(count), poses(count), strict=True)):
        numbers = " ".join(repr(float(v)) for v in (*quat, *pose[:3, 3].tolist()))
        seen = " ".join(f"1.0 2.0 {point}" for point in seen_points(number))
        lines += [f"{number + 1} {numbers} 7 {name}", seen]
    (place / "images.txt").write_text("\n".join(lines) + "\n")
    rows = []
    for n in range(5):
        track = "".join(f" {image + 1} {n}" for image in range(count) if n in seen_points(image))
        rows.append(f"{n} {n} 2 3 {10 * n} 51 255 0.5{track}")
    (place / "points3D.txt").write_text("\n".join(["# points", *rows]) + "\n")
    return folder
