"""The interface of ``diff_gaussian_rasterization``, in the two dialects that hosts of the pixelSplat family use.

The plain dialect (pixelSplat, MVSplat, TransPlat, HiSplat, DepthSplat) returns ``(color, radii)`` and reads SH
coefficients in e3nn's axis order. The dialect with poses (NoPoSplat) is recognized by ``projmatrix_raw`` in the
settings; it returns ``(color, radii, depth, opacity, n_touched)``, reads SH in the usual order, and gives gradients to
``theta`` and ``rho``, a perturbation Exp(rho, theta) of world_to_camera from the left. Written from the interface the
hosts call and the semantics their images show; no line comes from the original packages.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import render
from diff3r_plugin.render.semantics import COLOR_OFFSET, FRUSTUM_MARGIN
from diff3r_plugin.render.spherical_harmonics import SH_C0, from_e3nn_order
from diff3r_plugin.views import Views

NEAR = 0.2
"""The fixed near limit of these rasterizers, in the units of the scene they are given."""

FAR = 1e10
MAX_DEGREE = 3
"""SH coefficients above this degree are ignored, as in the originals."""


class GaussianRasterizationSettings(NamedTuple):
    """Camera and options of one image; matrices are transposed (they multiply row vectors)."""

    image_height: int
    image_width: int
    tanfovx: float | Tensor
    tanfovy: float | Tensor
    bg: Float[Tensor, " 3"]
    scale_modifier: float
    viewmatrix: Float[Tensor, "4 4"]
    projmatrix: Float[Tensor, "4 4"]
    sh_degree: int
    campos: Float[Tensor, " 3"]
    prefiltered: bool = False
    debug: bool = False
    projmatrix_raw: Float[Tensor, "4 4"] | None = None


class GaussianRasterizer(nn.Module):
    """Renders one image of one scene; see the module's text for the dialects."""

    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    def markVisible(self, positions: Float[Tensor, "N 3"]) -> Tensor:
        """Which centers lie in front of the near limit."""
        with torch.no_grad():
            view = self.raster_settings.viewmatrix
            return positions @ view[:3, 2] + view[3, 2] > NEAR

    def forward(
        self,
        means3D: Float[Tensor, "N 3"],
        means2D: Float[Tensor, "N 3"],
        opacities: Float[Tensor, "N 1"],
        shs: Float[Tensor, "N K 3"] | None = None,
        colors_precomp: Float[Tensor, "N 3"] | None = None,
        scales: Float[Tensor, "N 3"] | None = None,
        rotations: Float[Tensor, "N 4"] | None = None,
        cov3D_precomp: Float[Tensor, "N 6"] | None = None,
        theta: Float[Tensor, " 3"] | None = None,
        rho: Float[Tensor, " 3"] | None = None,
    ) -> tuple[Tensor, ...]:
        """Render. ``means2D`` is part of the interface only: hosts pass zeros and read no gradient from it.

        Raises:
            ValueError: unless exactly one of shs and colors_precomp, and exactly one of cov3D_precomp and scales with
                rotations, is given.
        """
        if (shs is None) == (colors_precomp is None):
            raise ValueError("Give exactly one of shs and colors_precomp.")
        if (cov3D_precomp is None) == (scales is None) or (scales is None) != (rotations is None):
            raise ValueError("Give exactly one of cov3D_precomp and (scales with rotations).")
        settings = self.raster_settings
        with_poses = settings.projmatrix_raw is not None
        views = _views(settings, theta, rho)
        if colors_precomp is None:
            assert shs is not None
            coefficients = min(settings.sh_degree, MAX_DEGREE) + 1
            harmonics = shs[:, : coefficients**2].mT
            if not with_poses:
                harmonics = from_e3nn_order(harmonics)
            shift = None
        else:
            harmonics, shift = _as_harmonics(colors_precomp)
        scene = _scene(means3D, opacities, harmonics, scales, rotations, cov3D_precomp, settings.scale_modifier)
        color = _draw(scene, views, shift)
        radii = _radii(scene, views)
        if not with_poses:
            return color, radii
        camera = views.world_to_camera[0, 0]
        depths = means3D @ camera[2, :3] + camera[2, 3]
        harmonics, shift = _as_harmonics(torch.stack([depths, torch.ones_like(depths), depths], -1))
        black = views.replace(background=torch.zeros_like(views.background))
        painted = _draw(Gaussians(scene.means, scene.covariances, scene.opacities, harmonics[None]), black, shift)
        return color, radii, painted[:1], painted[1:2].detach(), (radii > 0).int()


def _views(settings: GaussianRasterizationSettings, theta: Tensor | None, rho: Tensor | None) -> Views:
    world_to_camera = settings.viewmatrix.mT
    if theta is not None and rho is not None:
        # Only the derivative counts: the host folds the increments' values into the camera itself.
        x, y, z = (theta - theta.detach()).unbind()
        a, b, c = (rho - rho.detach()).unbind()
        zero = torch.zeros_like(x)
        increment = torch.stack(
            [
                torch.stack(row)
                for row in ((zero, -z, y, a), (z, zero, -x, b), (-y, x, zero, c), (zero, zero, zero, zero))
            ]
        )
        world_to_camera = world_to_camera + increment @ world_to_camera
    H, W = int(settings.image_height), int(settings.image_width)
    intrinsics = world_to_camera.new_tensor(
        [
            [W / (2 * float(settings.tanfovx)), 0, W / 2],
            [0, H / (2 * float(settings.tanfovy)), H / 2],
            [0, 0, 1],
        ]
    )
    return Views(
        world_to_camera[None, None],
        intrinsics[None, None],
        near=NEAR,
        far=FAR,
        image_size=(H, W),
        background=settings.bg,
    )


def _scene(
    means: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    scales: Tensor | None,
    rotations: Tensor | None,
    packed: Tensor | None,
    scale_modifier: float,
) -> Gaussians:
    opacities = opacities.reshape(1, -1)
    if packed is None:
        assert scales is not None and rotations is not None
        # Quaternions are wxyz, and normalized on the way; the hosts hand in unit ones.
        return Gaussians.from_scales(
            means[None], scale_modifier * scales[None], rotations[None], opacities, harmonics[None]
        ).with_covariances()
    covariances = packed[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(1, -1, 3, 3)
    return Gaussians(means[None], covariances, opacities, harmonics[None])


def _as_harmonics(colors: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3 1"], Tensor]:
    """Plain colors as SH of degree 0, and the shift that keeps them from being clamped at zero."""
    shift = (-colors.detach().amin()).clamp_min(0) if len(colors) else colors.new_zeros(())
    return ((colors + shift - COLOR_OFFSET) / SH_C0)[..., None], shift


def _draw(scene: Gaussians, views: Views, shift: Tensor | None) -> Float[Tensor, "3 H W"]:
    if shift is None:
        return render(scene, views)[0, 0]
    # The weights of all splats and of the background add up to one, so a common shift comes out as it went in.
    return render(scene, views.replace(background=views.background + shift))[0, 0] - shift


@torch.no_grad()
def _radii(scene: Gaussians, views: Views) -> Int[Tensor, " N"]:
    """Three standard deviations of each splat in whole pixels; 0 where it is not rendered."""
    rotation, translation = views.world_to_camera[0, 0, :3, :3], views.world_to_camera[0, 0, :3, 3]
    H, W = views.image_size
    fx, fy = views.intrinsics[0, 0, 0, 0], views.intrinsics[0, 0, 1, 1]
    x, y, z = (scene.means[0] @ rotation.mT + translation).unbind(-1)
    visible = z > NEAR
    z = torch.where(visible, z, 1)
    limit_x, limit_y = (1 + FRUSTUM_MARGIN) * 0.5 * W / fx, (1 + FRUSTUM_MARGIN) * 0.5 * H / fy
    slope_x, slope_y = (x / z).clamp(-limit_x, limit_x), (y / z).clamp(-limit_y, limit_y)
    to_x = (fx / z)[:, None] * (rotation[0] - slope_x[:, None] * rotation[2])
    to_y = (fy / z)[:, None] * (rotation[1] - slope_y[:, None] * rotation[2])
    covariances = scene.covariance_matrices[0]
    through_x, through_y = (covariances @ to_x[..., None])[..., 0], (covariances @ to_y[..., None])[..., 0]
    xx = (to_x * through_x).sum(-1) + views.dilation
    yy = (to_y * through_y).sum(-1) + views.dilation
    xy = (to_x * through_y).sum(-1)
    largest = 0.5 * (xx + yy) + (0.25 * (xx - yy) ** 2 + xy**2).sqrt()
    return torch.where(visible & (largest > 0), (3 * largest.clamp_min(0).sqrt()).ceil(), 0).nan_to_num(0, 0, 0).int()
