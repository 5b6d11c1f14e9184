"""A scene in the form that the page's viewer reads."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.quaternions import quaternions
from diff3r_plugin.render.semantics import COLOR_OFFSET
from diff3r_plugin.render.spherical_harmonics import spherical_harmonics_basis
from diff3r_plugin.views import Views

BYTES = 24
"""Of one Gaussian, before compression."""


@dataclass(frozen=True)
class SplatData:
    """Both states of a scene in the frame of its first context camera, whose median depth is the unit of length.

    Args:
        before: Base64 of the compressed prediction.
        after: The same of the refined scene.
        count: Gaussians in each.
        width: Of the context image, px.
        height: Of the context image, px.
        focal: (fx, fy), px.
        center: Principal point, px.
        background: Color behind all Gaussians.
        dilation, antialiased: Image formation, as in `Views`.
    """

    before: str
    after: str
    count: int
    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    background: tuple[float, float, float]
    dilation: float
    antialiased: bool

    @classmethod
    def of(cls, before: Gaussians, after: Gaussians, camera: Views) -> SplatData:
        """Of the first scene of each, seen by the first view of ``camera``."""
        pose = camera.world_to_camera[0, 0].double()
        matrix = camera.intrinsics[0, 0].double()
        height, width = camera.image_size
        depth = (before.means[0].double() @ pose[:3, :3].T + pose[:3, 3])[:, 2]
        depth = depth[depth > float(camera.near[0, 0])]
        unit = float(depth.median()) if depth.numel() else 1.0
        return cls(
            before=packed(before, pose, unit),
            after=packed(after, pose, unit),
            count=before.num_gaussians,
            width=width,
            height=height,
            focal=(float(matrix[0, 0]), float(matrix[1, 1])),
            center=(float(matrix[0, 2]), float(matrix[1, 2])),
            background=tuple(camera.background.tolist()),
            dilation=camera.dilation,
            antialiased=camera.antialiased,
        )


def packed(scene: Gaussians, pose: Tensor, unit: float) -> str:
    """Positions, scales (half floats), quaternions (16 bits, wxyz) and colors with opacity (8 bits), array by array.

    Colors are those that the camera sees: the viewer knows no harmonics.

    Args:
        scene: Its first scene is packed.
        pose: World to camera, ``[4, 4]``.
        unit: Length that becomes 1.
    """
    scene = scene.map(lambda tensor: tensor[:1].detach().cpu().double()).with_covariances()
    assert scene.covariances is not None
    rotation = pose[:3, :3]
    means = scene.means[0] @ rotation.T + pose[:3, 3]
    variances, axes = torch.linalg.eigh(rotation @ scene.covariances[0] @ rotation.T)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    directions = torch.nn.functional.normalize(scene.means[0] + rotation.T @ pose[:3, 3], dim=-1)
    basis = spherical_harmonics_basis(directions, scene.sh_degree)
    colors = (scene.harmonics[0] * basis[:, None]).sum(-1) + COLOR_OFFSET
    drawn = torch.cat([colors, scene.opacities[0, :, None]], -1).clamp(0, 1)
    largest = float(np.finfo(np.float16).max)
    parts = [
        (means / unit).clamp(-largest, largest).numpy().astype("<f2"),
        (variances.clamp_min(0).sqrt() / unit).clamp_max(largest).numpy().astype("<f2"),
        (quaternions(axes) * 32767).round().numpy().astype("<i2"),
        (drawn * 255).round().numpy().astype("u1"),
    ]
    return base64.b64encode(gzip.compress(b"".join(part.tobytes() for part in parts), 6, mtime=0)).decode()
