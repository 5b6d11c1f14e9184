"""A small scene with images of what it should become, in the files that ``diff3r refine`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from scenes import refinable_scene

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.io import write_image, write_ply
from diff3r_plugin.io.conventions import camera_to_world
from diff3r_plugin.render import render

VIEWS = 6
SH_DC = 0.28209479177387814


def write_scene(folder: Path, finished: bool = False) -> tuple[Path, Path]:
    """``scene.ply`` and a ``transforms.json`` with six images; returns both.

    With ``finished``, the images are what the scene shows.
    """
    scene, views = made()
    if finished:
        views = views.replace(images=render(scene, views.replace(background=views.background.new_zeros(3))))
    write_ply(folder / "scene.ply", scene)
    names = write_images(folder, views)
    poses = camera_to_world(views.world_to_camera[0].double(), "opengl")
    matrix = views.intrinsics[0, 0].tolist()
    height, width = views.image_size
    content = {
        "fl_x": matrix[0][0],
        "fl_y": matrix[1][1],
        "cx": matrix[0][2],
        "cy": matrix[1][2],
        "w": width,
        "h": height,
        "frames": [
            {"file_path": f"images/{name}", "transform_matrix": pose.tolist()}
            for name, pose in zip(names, poses, strict=True)
        ],
    }
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "scene.ply", folder / "transforms.json"


def write_colmap(folder: Path) -> Path:
    """The same as a COLMAP text model whose points are the Gaussians' centers."""
    scene, views = made()
    names = write_images(folder, views)
    (folder / "sparse").mkdir()
    height, width = views.image_size
    fx, fy, cx, cy = (float(views.intrinsics[0, 0][i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    (folder / "sparse" / "cameras.txt").write_text(f"1 PINHOLE {width} {height} {fx} {fy} {cx} {cy}\n")
    from diff3r_plugin.io.quaternions import quaternions

    lines = []
    for number, name in enumerate(names):
        pose = views.world_to_camera[0, number].double()
        numbers = [*quaternions(pose[None, :3, :3])[0].tolist(), *pose[:3, 3].tolist()]
        lines += [f"{number + 1} {' '.join(map(repr, numbers))} 1 {name}", ""]
    (folder / "sparse" / "images.txt").write_text("\n".join(lines) + "\n")
    colors = ((scene.harmonics[0, :, :, 0] * SH_DC + 0.5).clamp(0, 1) * 255).round().int().tolist()
    rows = [
        f"{number} {' '.join(map(repr, mean))} {' '.join(map(str, color))} 0.5"
        for number, (mean, color) in enumerate(zip(scene.means[0].tolist(), colors, strict=True))
    ]
    (folder / "sparse" / "points3D.txt").write_text("\n".join(rows) + "\n")
    return folder


def write_images(folder: Path, views: Views) -> list[str]:
    """``images/0.png``, ...; returns the names."""
    assert views.images is not None
    for number, image in enumerate(views.images[0]):
        write_image(folder / "images" / f"{number}.png", image)
    return [f"{number}.png" for number in range(views.num_views)]


def made() -> tuple[Gaussians, Views]:
    """A disturbed scene and views of what it was before, in front of black."""
    scene, views = refinable_scene(
        gaussians=60, views=VIEWS, size=(24, 32), opacities=(0.3, 0.95), dtype=torch.float32, spread=0.7
    )
    return scene, views
