"""The uncertainty head for Gaussians that stand on no grid: it looks where each of them projects in the views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.heads.inputs import joined, require_channels
from diff3r_plugin.heads.weight_head import WeightHead, starting_at_zero
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

OWN, SEEN = 4, 6
"""Numbers of a Gaussian itself (opacity, size in pixels, relative depth, how many views see it); of a view at its
projection (color of the image, residual of the unrefined rendering), each of which is pooled twice."""


class ProjectedHead(WeightHead):
    """A small network for each Gaussian, whatever their order and number: merged, pruned or made from nothing.

    Its input is what the views show where the Gaussian's center projects (the image, the residual of the unrefined
    rendering, the host's tapped feature map), as mean over the views that see it, image and residual as deviation among
    those views as well; and the Gaussian's own opacity, size and depth. All of it is detached. A view sees a Gaussian
    whose center lies in front of it and projects into its image; others have no part in its weights. What stands in
    front of the Gaussian is not looked at. The output is that of `UncertaintyHead`: one positive weight per Gaussian
    and group, exp(base + change), where the change starts at zero everywhere.

    Args:
        groups: Which groups need weights.
        feature_channels: Channels of the tapped feature map; 0 for none.
        hidden: Width of the hidden layers.
        initial_weights: Starting weight per group; missing groups take that of their record in `groups.GROUPS`.

    Raises:
        ValueError: for an unknown group, or a starting weight that is not positive and finite.

    Example:
        >>> from diff3r_plugin.heads.projected import ProjectedHead
        >>> round(ProjectedHead(("means", "opacity"), initial_weights={"means": 0.5}).base_weights()["means"], 3)
        0.5
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        feature_channels: int = 0,
        hidden: int = 32,
        initial_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(groups, initial_weights)
        self.feature_channels = feature_channels
        self.layers = nn.Sequential(
            nn.Linear(OWN + 2 * SEEN + feature_channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            starting_at_zero(nn.Linear(hidden, len(self.gaussian_groups))),
        )

    def forward(
        self,
        gaussians: Gaussians,
        views: Views,
        features: Float[Tensor, "B V C h w"] | None = None,
        backend: str = "auto",
    ) -> ProximalWeights:
        """Weights for these scenes.

        Args:
            gaussians: The network's prediction; entries of opacity 0 are padding and count for nothing.
            views: The context views with images in [0, 1].
            features: The tapped feature map, at any resolution.
            backend: Render backend for the unrefined rendering.

        Raises:
            ValueError: if the channels of ``features`` do not fit.
        """
        inputs = self._inputs(gaussians.detach(), views.detach(), features, backend)
        return self.changed_by(self.layers(inputs).movedim(-1, 0), views.num_views)

    @torch.no_grad()
    def _inputs(
        self, scene: Gaussians, views: Views, features: Tensor | None, backend: str
    ) -> Float[Tensor, "B N channels"]:
        require_channels(features, self.feature_channels)
        images = views.given_images
        maps = torch.cat([images - 0.5, 4 * (render(scene, views, backend) - images)], 2)
        count = scene.means.new_zeros(*scene.means.shape[:2], 1)
        first, second = maps.new_zeros(*count.shape[:2], SEEN), maps.new_zeros(*count.shape[:2], SEEN)
        geometry = count.new_zeros(*count.shape[:2], 2)
        tapped = None if features is None else maps.new_zeros(*count.shape[:2], features.shape[2])
        variance = scene.covariance_matrices.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-20)
        for view in range(views.num_views):  # one after another: all at once, the samples alone would fill the memory
            grid, depth, sees = _projected(scene, views, view)
            weight = sees[..., None].to(maps.dtype)
            samples = _sampled(maps[:, view], grid)
            first += weight * samples
            second += weight * samples.square()
            if tapped is not None and features is not None:
                tapped += weight * _sampled(features[:, view].detach().to(maps.dtype), grid)
            log_depth = torch.where(sees, depth, 1.0).log()
            pixels = 0.5 * variance.log() - log_depth + views.intrinsics[:, view, 0, 0, None].log()
            geometry += weight * torch.stack([pixels.clamp(-5, 5), log_depth], -1)
            count += weight
        share = count.clamp_min(1)
        mean = first / share
        deviation = (second / share - mean.square()).clamp_min(0).sqrt()
        pixels, log_depth = (geometry / share).unbind(-1)
        counts = (count[..., 0] > 0) & (scene.opacities > 0) & log_depth.isfinite()
        typical = torch.where(counts, log_depth, 0.0).sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp_min(1)
        relative = torch.where(counts, log_depth - typical, 0.0)
        own = torch.stack([scene.opacities - 0.5, pixels, relative, count[..., 0].log1p()], -1)
        return joined([own, mean, deviation, *([] if tapped is None else [tapped / share])], -1, self.log_base)


def _projected(
    scene: Gaussians, views: Views, view: int
) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Where centers project, in `grid_sample`'s coordinates; their depths; whether the view sees them."""
    height, width = views.image_size
    camera, intrinsics = views.world_to_camera[:, view], views.intrinsics[:, view]
    points = scene.means @ camera[:, :3, :3].mT + camera[:, None, :3, 3]
    depth = points[..., 2]
    inverse = torch.where(depth > 0, depth, 1.0).reciprocal()
    x = intrinsics[:, 0, 0, None] * points[..., 0] * inverse + intrinsics[:, 0, 2, None]
    y = intrinsics[:, 1, 1, None] * points[..., 1] * inverse + intrinsics[:, 1, 2, None]
    ahead = (depth > views.near[:, view, None]) & (depth < views.far[:, view, None])
    sees = ahead & (x > 0) & (x < width) & (y > 0) & (y < height)
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return torch.where(sees[..., None], grid, 0.0), depth, sees


def _sampled(maps: Float[Tensor, "B C h w"], grid: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N C"]:
    """The map's values at these places; borders are continued."""
    found = functional.grid_sample(maps, grid[:, :, None].to(maps.dtype), padding_mode="border", align_corners=False)
    return found[..., 0].mT
