"""Input in another convention is an error with a cure, not a meaningless result.

Checks of kinds, shapes and devices cost nothing; those of values are a few reductions on small tensors whose results
come from the device together. What is not finite is no matter of conventions: such a scene keeps its prediction
(`Outcome`), and the others are refined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.validation.arguments import require_scenes_and_cameras, require_something_to_refine
from diff3r_plugin.validation.cameras import camera_findings
from diff3r_plugin.validation.finding import raise_first
from diff3r_plugin.validation.images import image_findings
from diff3r_plugin.validation.placement import placement_finding
from diff3r_plugin.validation.scenes import gaussian_findings
from diff3r_plugin.views import Views

__all__ = ["check_conventions", "check_inputs", "require_scenes_and_cameras", "require_something_to_refine"]


def check_inputs(gaussians: Gaussians, views: Views, pixel_weights: Tensor | None = None) -> None:
    """Raise if scenes or cameras are in another convention than this package's, or no camera sees anything.

    Args:
        gaussians: B scenes.
        views: Their cameras, with or without images.
        pixel_weights: Weight of each pixel's squared error, ``[B, V, H, W]``.

    Raises:
        ValueError: for opacities outside of [0, 1] (logits), negative scales (logarithms), covariances that are not
            symmetric, cameras that are not rigid, intrinsics that are normalized, negative or transposed, near >= far,
            images or a background outside of [0, 1], and scenes that lie behind all of their cameras; with the value,
            what was expected, and the cure.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.validation import check_inputs
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), -3.0), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> check_inputs(g, Views(torch.eye(4)[None, None], K, image_size=(16, 16)))
        Traceback (most recent call last):
        ...
        ValueError: opacities must lie in [0, 1], got [-3, -3], the first in scene 0, Gaussian 0. Logits, ...
    """
    with torch.no_grad():
        raise_first(
            [
                *gaussian_findings(gaussians),
                *camera_findings(views),
                *image_findings(views, pixel_weights),
                placement_finding(gaussians, views),
            ]
        )


def check_conventions(gaussians: Gaussians, views: Views, pixel_weights: Tensor | None = None) -> None:
    """:func:`check_inputs`, but cameras may look away from everything: a network may predict that now and then."""
    with torch.no_grad():
        raise_first(
            [*gaussian_findings(gaussians), *camera_findings(views), *image_findings(views, pixel_weights)],
        )
