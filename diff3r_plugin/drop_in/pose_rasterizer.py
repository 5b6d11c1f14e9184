"""The interface of ``diff_gauss_pose``, the rasterizer of SPFSplat: scales and rotations, differentiable view matrix.

Written from the interface the host calls; no line comes from the original package. Normals are not provided (zeros).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.drop_in import rasterizer


class GaussianRasterizationSettings(NamedTuple):
    """Options of one image; ``projmatrix`` is transposed and, other than elsewhere, without the view matrix."""

    image_height: int
    image_width: int
    tanfovx: float | Tensor
    tanfovy: float | Tensor
    bg: Float[Tensor, " 3"]
    scale_modifier: float
    projmatrix: Float[Tensor, "4 4"]
    sh_degree: int
    prefiltered: bool = False
    debug: bool = False
    enable_cov_grad: bool = False
    enable_sh_grad: bool = False


class GaussianRasterizer(nn.Module):
    """Renders one image of one scene."""

    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    def forward(
        self,
        means3D: Float[Tensor, "N 3"],
        means2D: Float[Tensor, "N 3"],
        opacities: Float[Tensor, "N 1"],
        shs: Float[Tensor, "N K 3"] | None = None,
        colors_precomp: Float[Tensor, "N 3"] | None = None,
        scales: Float[Tensor, "N 3"] | None = None,
        rotations: Float[Tensor, "N 4"] | None = None,
        cov3Ds_precomp: Float[Tensor, "N 6"] | None = None,
        viewmatrix: Float[Tensor, "4 4"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        """Color, depth, normals (zeros), opacity ``[1, H, W]``, radii, and nothing in the place of extra channels.

        Gradients reach every tensor of the scene and ``viewmatrix`` (world to camera, transposed).

        Raises:
            ValueError: without a view matrix, and as the rasterizer of the other hosts.
        """
        if viewmatrix is None:
            raise ValueError("Give viewmatrix: world to camera, transposed.")
        settings = self.raster_settings
        # The dialect of the other pose-free host, whose view matrix lies in the settings; everything else is the same.
        same = rasterizer.GaussianRasterizationSettings(
            settings.image_height,
            settings.image_width,
            settings.tanfovx,
            settings.tanfovy,
            settings.bg,
            settings.scale_modifier,
            viewmatrix,
            viewmatrix @ settings.projmatrix,
            settings.sh_degree,
            torch.linalg.inv(viewmatrix.detach())[3, :3],
            projmatrix_raw=settings.projmatrix,
        )
        color, radii, depth, opacity, _ = rasterizer.GaussianRasterizer(same)(
            means3D, means2D, opacities, shs, colors_precomp, scales, rotations, cov3Ds_precomp
        )
        return color, depth, torch.zeros_like(color), opacity, radii, None
