"""Where the pixel weights of a host's context images come from."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.heads.confidence import ConfidenceHead, silence_untrusted
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.views import Views

CONFIDENCE_SEED = 20260402


class PixelConfidence:
    """Confidence of every context pixel: predicted by its head, or none where the setting is off.

    Args:
        context: The run's settings.
        feature_channels: Channels of the tapped feature map; 0 without one.
    """

    def __init__(self, context: RunContext, feature_channels: int) -> None:
        self.backend = context.settings.tto.backend
        self._say = context.say
        self._told = False
        self.head: ConfidenceHead | None = None
        if context.settings.confidence == "off":
            return
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # the host's random stream stays
            torch.manual_seed(CONFIDENCE_SEED)
            self.head = ConfidenceHead(feature_channels=feature_channels, hidden=context.settings.head_width)

    def __call__(
        self, gaussians: Gaussians, views: Views, features: Float[Tensor, "B V C h w"] | None
    ) -> tuple[Float[Tensor, "B V H W"] | None, Bool[Tensor, " B"] | None]:
        """Confidence of these scenes' context pixels, and the scenes in which nothing is trusted; None where off."""
        if self.head is None:
            return None, None
        if views.num_views < 2 and not self._told:
            self._told = True
            self._say("diff3r.confidence=learned: one context view has no other to be judged by; all of it is trusted.")
        return silence_untrusted(self.head(gaussians, views, features, self.backend))
