"""The uncertainty head: predicts the proximal weights Λ from what the network sees and renders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.heads.cross_view import CHANNELS, cross_view_maps, depth_disagreement
from diff3r_plugin.heads.inputs import joined, require_channels, resized
from diff3r_plugin.heads.view_changes import ViewChanges
from diff3r_plugin.heads.weight_head import WeightHead, starting_at_zero
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.views import Views


class UncertaintyHead(WeightHead):
    """A small convolutional head for hosts with pixel-aligned Gaussians, in the order (view, row, column, surface).

    Its input per context view: the image, the residual of the unrefined rendering, and maps of the initial
    Gaussians (opacity, size in pixels, relative depth), together with the host's tapped feature map where there is
    one, and (``cross_view``) what the other views' Gaussians give in its place; all detached. Its output: one positive
    weight per Gaussian and group, exp(base + change). The base is learned per group; the change starts at zero
    everywhere, so that training starts from ``initial_weights``. Groups of which each view has its own (poses,
    exposure) get one weight a view, from pooled features of the view next to those of the others.

    Args:
        groups: Which groups need weights.
        feature_channels: Channels of the tapped feature map; 0 for none.
        gaussians_per_pixel: How many Gaussians a pixel has.
        hidden: Channels of the hidden layers.
        cross_view: Also see where the other views' predictions cover a view, and which color and depth they give it.
        initial_weights: Starting weight per group; missing groups take that of their record in `groups.GROUPS`.

    Raises:
        ValueError: for an unknown group, or a starting weight that is not positive and finite.

    Example:
        >>> from diff3r_plugin import UncertaintyHead
        >>> head = UncertaintyHead(("means", "opacity"), initial_weights={"means": 0.5})
        >>> round(head.base_weights()["means"], 3)
        0.5
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        feature_channels: int = 0,
        gaussians_per_pixel: int = 1,
        hidden: int = 32,
        cross_view: bool = False,
        initial_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(groups, initial_weights)
        self.cross_view = cross_view
        self.feature_channels, self.gaussians_per_pixel = feature_channels, gaussians_per_pixel
        inputs = feature_channels + 6 + 3 * gaussians_per_pixel + (CHANNELS + 1 if cross_view else 0)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            starting_at_zero(nn.Conv2d(hidden, len(self.gaussian_groups) * gaussians_per_pixel, 1)),
        )
        self.view_changes = ViewChanges(hidden, len(self.view_groups)) if self.view_groups else None

    def forward(
        self,
        gaussians: Gaussians,
        views: Views,
        features: Float[Tensor, "B V C h w"] | None = None,
        backend: str = "auto",
        rendered: Float[Tensor, "B V 3 H W"] | None = None,
    ) -> ProximalWeights:
        """Weights for these scenes.

        Args:
            gaussians: The network's prediction, N = V·H·W·gaussians_per_pixel.
            views: The context views with images in [0, 1].
            features: The tapped feature map, at any resolution.
            backend: Render backend for the unrefined rendering.
            rendered: The unrefined rendering, where there is one already (of more Gaussians than these, say).

        Raises:
            ValueError: if N or the channels of ``features`` do not fit.
        """
        inputs = self._inputs(gaussians, views, features, backend, rendered)
        B, V = inputs.shape[:2]
        hidden = self.layers[:-1](rearrange(inputs, "b v c h w -> (b v) c h w"))
        changes = self.layers[-1](hidden)
        changes = rearrange(changes, "(b v) (g s) h w -> g b (v h w s)", b=B, v=V, g=len(self.gaussian_groups))
        per_view = None if self.view_changes is None else self.view_changes(hidden.unflatten(0, (B, V)))
        return self.changed_by(changes, V, per_view)

    @torch.no_grad()
    def _inputs(
        self, gaussians: Gaussians, views: Views, features: Tensor | None, backend: str, rendered: Tensor | None
    ) -> Float[Tensor, "B V C H W"]:
        (H, W), V, s = views.image_size, views.num_views, self.gaussians_per_pixel
        if gaussians.num_gaussians != V * H * W * s:
            raise ValueError(
                f"The head expects {s} Gaussian(s) for each pixel of {V} views of {H}x{W}, that is {V * H * W * s}, "
                f"got {gaussians.num_gaussians}. Set gaussians_per_pixel, or give fixed weights instead of a head "
                "(diff3r.head=fixed)."
            )
        require_channels(features, self.feature_channels)
        scene = gaussians.detach().with_covariances()
        if rendered is None:
            rendered = render(scene, views.detach(), backend)
        residual = rendered - views.given_images

        def as_map(values: Float[Tensor, "B N"]) -> Float[Tensor, "B V s H W"]:
            return rearrange(values, "b (v h w s) -> b v s h w", v=V, h=H, w=W)

        # Depth of each Gaussian in the view that predicted it, relative to the scene's mean.
        per_view = rearrange(scene.means, "b (v n) c -> b v n c", v=V)
        forward, offset = views.world_to_camera[:, :, 2, :3], views.world_to_camera[:, :, 2, 3]
        depth = (per_view * forward[:, :, None]).sum(-1) + offset[..., None]
        depth = rearrange(depth, "b v n -> b (v n)").clamp_min(1e-6)
        log_depth = depth.log()
        variance = scene.covariance_matrices.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-20)
        focal = views.intrinsics[:, :, 0, 0].mean(1, keepdim=True)
        pixels = 0.5 * variance.log() - log_depth + focal.log()
        maps = [
            views.given_images - 0.5,
            4 * residual,
            as_map(scene.opacities - 0.5),
            as_map(pixels.clamp(-5, 5)),
            as_map(log_depth - log_depth.mean(1, keepdim=True)),
        ]
        if self.cross_view:
            maps += [4 * cross_view_maps(scene, views, backend), 4 * depth_disagreement(scene, views, backend)]
        if features is not None:
            maps.append(resized(features, (H, W), self.log_base))
        return joined(maps, 2, self.log_base)
