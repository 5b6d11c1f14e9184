"""The confidence head: how much each pixel of each context view is to count in the refinement."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.heads.cross_view import CHANNELS, cross_view_maps
from diff3r_plugin.heads.inputs import joined, require_channels, resized
from diff3r_plugin.heads.view_changes import next_to_others
from diff3r_plugin.heads.weight_head import starting_at_zero
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

INITIAL = 0.95
"""Confidence of every pixel before any training."""

NEGLIGIBLE = 1e-3
"""A scene none of whose pixels exceeds this has nothing to be refined on."""


class ConfidenceHead(nn.Module):
    """Predicts the pixel weights w of the energy: 1 for what can be trusted, 0 for what must not pull at the scene.

    A robust loss cannot tell a corrupted context image, since the prediction was made from it and agrees with it. What
    can tell are the other views. The input per view: its image, its residual, what the *other* views' Gaussians
    give in its place (residual and opacity), and the host's tapped feature map where there is one; all detached.

    w = sigmoid(pixel + view): one logit for every pixel, and one for every view from pooled features, compared with
    those of the other views, so that a whole view can be left out. Views are treated alike, in any order and number.

    Args:
        feature_channels: Channels of the tapped feature map; 0 for none.
        hidden: Channels of the hidden layers.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.heads.confidence import ConfidenceHead
        >>> means = torch.rand(1, 2 * 8 * 8, 3) + torch.tensor([0, 0, 2.0])
        >>> g = Gaussians(means, 0.01 * torch.eye(3).expand(1, 128, 3, 3), torch.full((1, 128), 0.5),
        ...               torch.zeros(1, 128, 3, 1))
        >>> K = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> w = ConfidenceHead()(g, Views(torch.eye(4).expand(1, 2, 4, 4), K, torch.rand(1, 2, 3, 8, 8)))
        >>> w.shape, round(w.mean().item(), 2)
        (torch.Size([1, 2, 8, 8]), 0.95)
    """

    def __init__(self, *, feature_channels: int = 0, hidden: int = 32) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        self.fine = nn.Sequential(
            nn.Conv2d(feature_channels + 6 + CHANNELS, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
        )
        self.coarse = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
        )
        self.compare = nn.Sequential(nn.Linear(6 * hidden, hidden), nn.GELU())
        self.to_view = starting_at_zero(nn.Linear(hidden, 1))
        self.to_pixel = nn.Sequential(
            nn.Conv2d(3 * hidden, hidden, 1), nn.GELU(), starting_at_zero(nn.Conv2d(hidden, 1, 1))
        )
        nn.init.constant_(self.to_view.bias, math.log(INITIAL / (1 - INITIAL)))

    def forward(
        self,
        gaussians: Gaussians,
        views: Views,
        features: Float[Tensor, "B V C h w"] | None = None,
        backend: str = "auto",
    ) -> Float[Tensor, "B V H W"]:
        """Confidence of every context pixel, in (0, 1).

        With one view there is no other to judge it by: its confidence is 1 everywhere, and nothing is learned.

        Args:
            gaussians: The network's pixel-aligned prediction, in the order (view, ...).
            views: The context views with images in [0, 1].
            features: The tapped feature map, at any resolution.
            backend: Render backend.

        Raises:
            ValueError: if the views have no images, or the channels of ``features`` do not fit.
        """
        if views.images is None:
            raise ValueError("Confidence is a property of images; these Views have none.")
        if views.num_views < 2:
            return torch.ones_like(views.images[:, :, 0])
        return self.logits(gaussians, views, features, backend).sigmoid()

    def logits(
        self, gaussians: Gaussians, views: Views, features: Tensor | None = None, backend: str = "auto"
    ) -> Float[Tensor, "B V H W"]:
        """The same before the sigmoid; for two views or more."""
        inputs = self._inputs(gaussians, views, features, backend)
        B, V, _, H, W = inputs.shape
        fine = self.fine(inputs.flatten(0, 1))
        coarse = self.coarse(fine)
        compared = self.compare(next_to_others(coarse.unflatten(0, (B, V))))
        view = self.to_view(compared)
        spread = functional.interpolate(coarse, size=(H, W), mode="bilinear", align_corners=False)
        whole = compared.flatten(0, 1)[..., None, None].expand(-1, -1, H, W)
        pixel = self.to_pixel(torch.cat([fine, spread, whole], 1))
        return pixel.reshape(B, V, H, W) + view[..., None]

    @torch.no_grad()
    def _inputs(
        self, gaussians: Gaussians, views: Views, features: Tensor | None, backend: str
    ) -> Float[Tensor, "B V C H W"]:
        require_channels(features, self.feature_channels)
        scene, views = gaussians.detach().with_covariances(), views.detach()
        residual = render(scene, views.replace(images=None), backend) - views.given_images
        maps = [views.given_images - 0.5, 4 * residual, 4 * cross_view_maps(scene, views, backend)]
        maps[-1][:, :, 3:] -= 2
        if features is not None:
            maps.append(resized(features, views.image_size, self.to_view.weight))
        return joined(maps, 2, self.to_view.weight)


def silence_untrusted(
    confidence: Float[Tensor, "B V H W"],
) -> tuple[Float[Tensor, "B V H W"], Bool[Tensor, " B"]]:
    """Confidence with exact zeros in scenes where next to nothing is trusted, and which scenes those are.

    On pixel weights of zero the energy asks for no change, so such a scene keeps its prediction instead of being
    refined on rounding errors.

    Example:
        >>> import torch
        >>> from diff3r_plugin.heads.confidence import silence_untrusted
        >>> w, untrusted = silence_untrusted(torch.tensor([1e-5, 0.5]).reshape(2, 1, 1, 1))
        >>> w.flatten().tolist(), untrusted.tolist()
        ([0.0, 0.5], [True, False])
    """
    untrusted = confidence.detach().flatten(1).amax(1) < NEGLIGIBLE
    return torch.where(untrusted[:, None, None, None], 0.0, confidence), untrusted


def supervision_loss(confidence: Float[Tensor, "B V H W"], corrupted: Bool[Tensor, "B V H W"]) -> Float[Tensor, ""]:
    """Binary cross entropy of the confidence where the data knows its corrupted pixels; both classes weigh the same."""
    truth = (~corrupted).to(confidence)
    good, bad = truth.mean(), 1 - truth.mean()
    balance = torch.where(corrupted, 0.5 / bad.clamp_min(1e-6), 0.5 / good.clamp_min(1e-6))
    if not bool(bad * good > 0):
        balance = torch.ones_like(balance)
    limited = confidence.clamp(1e-6, 1 - 1e-6)
    return functional.binary_cross_entropy(limited, truth, weight=balance)
