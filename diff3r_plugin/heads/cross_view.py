"""What the other views say about a view: their Gaussians alone, rendered by its camera."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import render
from diff3r_plugin.render.spherical_harmonics import SH_C0
from diff3r_plugin.views import Views

CHANNELS = 4
"""Of `cross_view_maps`: three of the color residual, one of opacity."""

SEEN, LEAST_DEPTH, MOST_DISAGREEMENT = 0.05, 1e-6, 2.0
"""Opacity below which the others predict no depth; the least depth with a logarithm; and where that of a ratio ends."""


@torch.no_grad()
def render_from_others(
    gaussians: Gaussians, views: Views, backend: str = "auto"
) -> tuple[Float[Tensor, "B V 3 H W"], Float[Tensor, "B V H W"]]:
    """Each view rendered from the Gaussians that the other views predicted.

    A network's prediction agrees with the very image it was made from, corrupted or not; what the other views predicted
    does not.

    Args:
        gaussians: Pixel-aligned scenes in the order (view, ...): every view predicted N / V Gaussians.
        views: At least two cameras.
        backend: Render backend.

    Returns:
        Color over black, and opacity in [0, 1].

    Raises:
        ValueError: if there is one view alone, or the Gaussians do not divide among the views.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.heads.cross_view import render_from_others
        >>> means, covariances = torch.tensor([[[0.0, 0, 2], [0.1, 0, 2]]]), 0.01 * torch.eye(3).expand(1, 2, 3, 3)
        >>> g = Gaussians(means, covariances, torch.full((1, 2), 0.5), torch.zeros(1, 2, 3, 1))
        >>> K = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> color, opacity = render_from_others(g, Views(torch.eye(4).expand(1, 2, 4, 4), K, image_size=(16, 16)))
        >>> color.shape, opacity.shape
        (torch.Size([1, 2, 3, 16, 16]), torch.Size([1, 2, 16, 16]))
    """
    B, V = views.batch_size, views.num_views
    scene, single = _others(gaussians, views)
    on_black, on_white = (
        render(scene, single.replace(background=(level,) * 3), backend).reshape(B, V, 3, *views.image_size)
        for level in (0.0, 1.0)
    )
    return on_black, (1 - (on_white - on_black).mean(2)).clamp(0, 1)


def _others(gaussians: Gaussians, views: Views) -> tuple[Gaussians, Views]:
    """A scene for each view, of the Gaussians that the other views predicted, and the view as its one camera."""
    B, V, N = views.batch_size, views.num_views, gaussians.num_gaussians
    if V < 2:
        raise ValueError(f"No other view predicted anything: there is {V} view, and at least 2 are needed.")
    if N % V:
        raise ValueError(f"Pixel-aligned Gaussians divide evenly among the views; got {N} for {V} views.")
    scene = gaussians.detach().with_covariances()

    def others(tensor: Tensor) -> Tensor:
        per_view = rearrange(tensor, "b (v n) ... -> b v n ...", v=V)
        rolled = torch.stack([torch.cat([per_view[:, (i + k) % V] for k in range(1, V)], 1) for i in range(V)], 1)
        return rolled.flatten(0, 1)

    views = views.detach()
    single = views.replace(
        images=None,
        world_to_camera=views.world_to_camera.reshape(B * V, 1, 4, 4),
        intrinsics=views.intrinsics.reshape(B * V, 1, 3, 3),
        near=views.near.reshape(B * V, 1),
        far=views.far.reshape(B * V, 1),
    )
    return scene.map(others), single


@torch.no_grad()
def depth_disagreement(gaussians: Gaussians, views: Views, backend: str = "auto") -> Float[Tensor, "B V 1 H W"]:
    """How far behind a pixel's own Gaussians the other views see the surface: logarithm of the depths' ratio.

    Times the other views' opacity: 0 where they predict nothing, and with one view everywhere. Positive where the
    others see farther than the pixel was predicted, negative where something of theirs stands before it.

    Args:
        gaussians: Pixel-aligned, in the order (view, row, column, surface).
        views: Their cameras.
        backend: Render backend.

    Raises:
        ValueError: if the Gaussians are not a whole number for each pixel.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.heads.cross_view import depth_disagreement
        >>> means = torch.tensor([[[0.0, 0, 2], [0.0, 0, 4]]])  # two views of one pixel each, from one place
        >>> g = Gaussians(means, 0.1 * torch.eye(3).expand(1, 2, 3, 3), torch.ones(1, 2), torch.zeros(1, 2, 3, 1))
        >>> K = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> found = depth_disagreement(g, Views(torch.eye(4).expand(1, 2, 4, 4), K, image_size=(1, 1)))
        >>> [round(value, 1) for value in found.flatten().tolist()]
        [0.7, -0.7]
    """
    B, V, (H, W) = views.batch_size, views.num_views, views.image_size
    if gaussians.num_gaussians % (V * H * W):
        raise ValueError(
            f"A whole number of Gaussians for each pixel is needed; got {gaussians.num_gaussians} for {V} views "
            f"of {H}x{W}."
        )
    if V < 2:
        return gaussians.means.new_zeros(B, V, 1, H, W)
    scene, single = _others(gaussians, views)
    depth = _depths(scene.means, single.world_to_camera[:, 0]).clamp_min(0)
    colors = torch.stack([depth, torch.ones_like(depth), torch.zeros_like(depth)], -1)
    scene = scene.replace(harmonics=((colors - 0.5) / SH_C0)[..., None])
    image = render(scene, single.replace(background=(0.0,) * 3), backend).reshape(B, V, 3, H, W)
    opacity = image[:, :, 1].clamp(0, 1)
    theirs = image[:, :, 0] / opacity.clamp_min(SEEN)
    per_view = rearrange(gaussians.means.detach(), "b (v n) c -> (b v) n c", v=V)
    own = _depths(per_view, views.world_to_camera.detach().flatten(0, 1))
    own = rearrange(own, "(b v) (h w s) -> b v h w s", b=B, h=H, w=W).mean(-1)
    ratio = theirs.clamp_min(LEAST_DEPTH).log() - own.clamp_min(LEAST_DEPTH).log()
    return (torch.where(opacity > SEEN, ratio, 0).clamp(-MOST_DISAGREEMENT, MOST_DISAGREEMENT) * opacity)[:, :, None]


def _depths(points: Float[Tensor, "B N 3"], world_to_camera: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B N"]:
    return (points @ world_to_camera[:, 2, :3, None])[..., 0] + world_to_camera[:, 2, 3, None]


@torch.no_grad()
def cross_view_maps(gaussians: Gaussians, views: Views, backend: str = "auto") -> Float[Tensor, "B V 4 H W"]:
    """Residual of each image against what the other views predict (0 where they predict nothing), and their opacity.

    With one view there is nothing to compare with, and all is 0.

    Raises:
        ValueError: if the views have no images, or the Gaussians do not divide among the views.
    """
    if views.images is None:
        raise ValueError("Comparing views with each other needs their images; these Views have none.")
    if views.num_views < 2:
        return torch.zeros_like(views.images[:, :, :1]).expand(-1, -1, CHANNELS, -1, -1)
    color, opacity = render_from_others(gaussians, views, backend)
    residual = color - opacity[:, :, None] * views.images.detach()
    return torch.cat([residual, opacity[:, :, None]], 2)
