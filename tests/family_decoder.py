"""The hosts' decoder, on the drop-in rasterizer: the calls that their ``render_cuda`` makes."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import diff3r_plugin

SITE = Path(diff3r_plugin.__file__).parent / "drop_in" / "site" / "diff_gaussian_rasterization"


def load_rasterizer() -> ModuleType:
    """The drop-in, whatever package of its name is installed."""
    spec = importlib.util.spec_from_file_location("drop_in_under_test", SITE / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def family_decoder(
    rasterizer: Any,
    scene: Any,  # a host's Gaussians: covariances as matrices
    cameras: dict[str, Tensor],
    height: int,
    width: int,
    scale_invariant: bool = True,
    with_pose: bool = False,
    background: Tensor | None = None,
) -> Tensor:
    """Renderings of the cameras, by the calls that the hosts' `render_cuda` makes; [B, V, 3, H, W]."""
    images = []
    scenes, views = cameras["near"].shape
    for b in range(scenes):
        for v in range(views):
            c2w, near = cameras["extrinsics"][b, v].clone(), cameras["near"][b, v]
            scale = 1 / near if scale_invariant else torch.tensor(1.0)
            c2w[:3, 3] *= scale
            far = cameras["far"][b, v] * scale
            inverse = cameras["intrinsics"][b, v].inverse()
            rays = {
                name: torch.nn.functional.normalize(inverse @ torch.tensor([*point, 1.0]), dim=0)
                for name, point in {"l": (0, 0.5), "r": (1, 0.5), "t": (0.5, 0), "b": (0.5, 1)}.items()
            }
            tan_x = math.tan(0.5 * math.acos(float(rays["l"] @ rays["r"])))
            tan_y = math.tan(0.5 * math.acos(float(rays["t"] @ rays["b"])))
            n = float(near * scale)
            projection = torch.zeros(4, 4)
            projection[0, 0], projection[1, 1] = 1 / tan_x, 1 / tan_y
            projection[2, 2], projection[2, 3], projection[3, 2] = far / (far - n), -(far * n) / (far - n), 1
            view = c2w.inverse().T
            options = {"projmatrix_raw": projection.T} if with_pose else {}
            settings = rasterizer.GaussianRasterizationSettings(
                image_height=height,
                image_width=width,
                tanfovx=tan_x,
                tanfovy=tan_y,
                bg=torch.zeros(3) if background is None else background,
                scale_modifier=1.0,
                viewmatrix=view,
                projmatrix=view @ projection.T,
                **options,
                sh_degree=int(scene.harmonics.shape[-1] ** 0.5) - 1,
                campos=c2w[:3, 3],
                prefiltered=False,
                debug=False,
            )
            row, column = torch.triu_indices(3, 3)
            means = scene.means[b] * scale
            outcome = rasterizer.GaussianRasterizer(settings)(
                means3D=means,
                means2D=torch.zeros_like(means),
                shs=scene.harmonics[b].mT.contiguous(),
                opacities=scene.opacities[b][:, None],
                cov3D_precomp=(scene.covariances[b] * scale**2)[:, row, column],
            )
            images.append(outcome[0])
    return torch.stack(images).unflatten(0, (scenes, views))
