"""Where the proximal weights of a host's scenes come from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.heads.projected import ProjectedHead
from diff3r_plugin.heads.pyramid import PyramidHead
from diff3r_plugin.heads.uncertainty import UncertaintyHead
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.views import Views

HEAD_SEED = 20260401


class Weights:
    """Proximal weights for a host's scenes: predicted by the head, or the same numbers everywhere.

    Args:
        context: The run's settings, and the hook by which others provide a head.
        feature_channels: Channels of the tapped feature map; 0 without one.
        grids: The pixel grids that the host's Gaussians stand on; None: they stand on none.

    Raises:
        PluginError: for settings that need one grid.
    """

    def __init__(self, context: RunContext, feature_channels: int, grids: tuple[PixelGrid, ...] | None) -> None:
        settings = context.settings
        start = {group: float(settings.weights.get(group, GROUPS[group].weight)) for group in settings.tto.groups}
        self.fixed = ProximalWeights.of(start)
        self.backend = settings.tto.backend
        self.grids = grids
        self.head: nn.Module | None = None
        if settings.head_cross_view or settings.confidence == "learned":
            self._require_one_grid(context)
        if settings.head == "fixed":
            return
        # The host's random stream is left as it is: with and without the plugin it sees the same data and noise.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(HEAD_SEED)
            self.head = context.call_hook("diff3r_head", feature_channels=feature_channels) or self._own_head(
                context, feature_channels, start
            )

    def _own_head(self, context: RunContext, feature_channels: int, start: dict[str, float]) -> nn.Module:
        settings = context.settings
        if self.grids is None:
            return ProjectedHead(
                settings.tto.groups,
                feature_channels=feature_channels,
                hidden=settings.head_width,
                initial_weights=start,
            )
        if self.grids == (PixelGrid(per_pixel=self.grids[0].per_pixel),):
            return UncertaintyHead(
                settings.tto.groups,
                feature_channels=feature_channels,
                gaussians_per_pixel=self.grids[0].per_pixel,
                hidden=settings.head_width,
                cross_view=settings.head_cross_view,
                initial_weights=start,
            )
        return PyramidHead(
            settings.tto.groups,
            self.grids,
            feature_channels=feature_channels,
            hidden=settings.head_width,
            initial_weights=start,
        )

    def __call__(
        self,
        gaussians: Gaussians,
        views: Views,
        features: Float[Tensor, "B V C h w"] | None,
        context_views: int | None = None,
    ) -> ProximalWeights:
        """Weights of a scene; with a graph to the head's parameters where gradients are on.

        Args:
            gaussians: The scene.
            views: The context views that the Gaussians stand on.
            features: The tapped feature map.
            context_views: How many context views there are, where those are not all of them.
        """
        if self.head is None:
            return self.fixed
        gaussians = gaussians.detach()
        repeats = 1
        if self.grids is not None and len(self.grids) == 1:
            # Asked for a deterministic answer, some hosts render fewer samples a pixel; the head sees each repeatedly.
            expected = self.grids[0].count(views.num_views, *views.image_size)
            repeats = max(expected // max(gaussians.num_gaussians, 1), 1)
        if repeats > 1:
            gaussians = gaussians.map(lambda t: t.repeat_interleave(repeats, 1))
        weights = self.head(gaussians, views, features, self.backend).tensors()
        for group, weight in weights.items():
            if not GROUPS[group].of_views:
                weights[group] = weight[:, ::repeats]
            elif context_views is not None:  # views without Gaussians get what the others have in the mean
                weights[group] = weight.log().mean(1, keepdim=True).exp().expand(-1, context_views, -1)
        return ProximalWeights(**weights)

    def _require_one_grid(self, context: RunContext) -> None:
        """What compares views needs to know which view predicted a Gaussian.

        Raises:
            PluginError: if that cannot be told.
        """
        if self.grids is None or len(self.grids) > 1:
            declared = "none" if self.grids is None else len(self.grids)
            raise PluginError(
                "diff3r.head_cross_view and diff3r.confidence need one Gaussian grid at the images' resolution; "
                f"adapter {context.adapter.name!r} declares {declared}. Leave these settings out."
            )
