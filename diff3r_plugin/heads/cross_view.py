"""What the other views say about a view: their Gaussians alone, rendered by its camera."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

CHANNELS = 4
"""Of `cross_view_maps`: three of the color residual, one of opacity."""


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
    scene = scene.map(others)
    on_black, on_white = (
        render(scene, single.replace(background=(level,) * 3), backend).reshape(B, V, 3, *views.image_size)
        for level in (0.0, 1.0)
    )
    return on_black, (1 - (on_white - on_black).mean(2)).clamp(0, 1)


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
