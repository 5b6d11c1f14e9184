"""A bound on how large Gaussians may become: what views see only the edge of, none of them holds."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.views import Views


def bounded_sizes(refined: Gaussians, given: Gaussians, views: Views, largest: float) -> Gaussians:
    """The refined scenes without Gaussians that have grown beyond their distance to the nearest camera, times a number.

    Of scales, each axis is cut; a covariance is made smaller as a whole until the root of its trace, which no axis
    exceeds, fits. What was larger than that when it was given may stay as large. Differentiable: where the bound acts,
    the size no longer depends on the scene.

    Args:
        refined: In the form of ``given``.
        given: The same Gaussians before they were refined.
        views: Whose cameras count.
        largest: Size over distance, positive.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.size_bound import bounded_sizes
        >>> def one(size):
        ...     upright, opacity = torch.tensor([[[1.0, 0, 0, 0]]]), torch.ones(1, 1)
        ...     mean, scales = torch.tensor([[[0.0, 0, 4]]]), torch.tensor([[[size, 0.1, 0.1]]])
        ...     return Gaussians.from_scales(mean, scales, upright, opacity, torch.ones(1, 1, 3, 1))
        >>> views = Views(torch.eye(4)[None, None], torch.eye(3)[None, None], image_size=(8, 8))
        >>> bounded_sizes(one(1e6), one(0.5), views, 0.5).scales
        tensor([[[2.0000, 0.1000, 0.1000]]])
    """
    with torch.no_grad():
        poses = views.world_to_camera.to(refined.dtype)
        centers = -(poses[..., :3, :3] * poses[..., :3, 3:]).sum(-2)
        limit = largest * torch.cdist(refined.means, centers).amin(-1)
    if refined.scales is not None and given.scales is not None:
        most = torch.maximum(given.scales.detach(), limit[..., None])
        return replace(refined, scales=torch.minimum(refined.scales, most))
    covariances = refined.covariance_matrices
    with torch.no_grad():
        most = torch.maximum(_trace(given.covariance_matrices), limit.square())
    trace = _trace(covariances)
    over = trace > most
    factor = torch.where(over, most / torch.where(over, trace, 1), 1)
    return replace(refined, covariances=covariances * factor[..., None, None])


def _trace(matrices: Float[Tensor, "B N 3 3"]) -> Float[Tensor, "B N"]:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
