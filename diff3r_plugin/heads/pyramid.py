"""The uncertainty head for Gaussians that stand on pixel grids of several resolutions, one grid after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.heads.uncertainty import UncertaintyHead
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.views import Views


class PyramidHead(nn.Module):
    """One :class:`~diff3r_plugin.UncertaintyHead` for each grid, which sees the views at the grid's resolution.

    All of them see the residual of the whole scene; poses and exposures get their weights from the first.

    Args:
        groups: Which groups need weights.
        grids: The grids, in the order of their Gaussians.
        feature_channels: Channels of the tapped feature map; 0 for none.
        hidden: Channels of the hidden layers.
        initial_weights: Starting weight per group.

    Raises:
        ValueError: as from the heads; without grids.

    Example:
        >>> from diff3r_plugin.alignment import PixelGrid
        >>> from diff3r_plugin.heads.pyramid import PyramidHead
        >>> len(PyramidHead(("means",), (PixelGrid(stride=2), PixelGrid())).heads)
        2
    """

    def __init__(
        self,
        groups: Sequence[str],
        grids: Sequence[PixelGrid],
        *,
        feature_channels: int = 0,
        hidden: int = 32,
        initial_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not grids:
            raise ValueError("A PyramidHead needs at least one grid.")
        self.grids = tuple(grids)
        self.heads = nn.ModuleList(
            UncertaintyHead(
                groups if index == 0 else [group for group in groups if not GROUPS[group].of_views],
                feature_channels=feature_channels,
                gaussians_per_pixel=grid.per_pixel,
                hidden=hidden,
                initial_weights=initial_weights,
            )
            for index, grid in enumerate(self.grids)
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
            gaussians: The network's prediction, grid after grid, each in the order view, row, column, sample.
            views: The context views with images in [0, 1].
            features: The tapped feature map, at any resolution.
            backend: Render backend for the unrefined rendering.

        Raises:
            ValueError: if the number of Gaussians does not fit the grids, or the images do not divide by a stride.
        """
        height, width = views.image_size
        counts = [grid.count(views.num_views, height, width) for grid in self.grids]
        if sum(counts) != gaussians.num_gaussians:
            raise ValueError(
                f"Grids with strides {', '.join(str(grid.stride) for grid in self.grids)} over {views.num_views} views "
                f"of {height}x{width} hold {sum(counts)} Gaussians, got {gaussians.num_gaussians}. Declare the "
                "alignment as it is, or give fixed weights instead of a head."
            )
        with torch.no_grad():
            rendered = render(gaussians.detach(), views.detach(), backend)
        parts, start = [], 0
        for grid, head, count in zip(self.grids, self.heads, counts, strict=True):
            part = _part(gaussians, slice(start, start + count))
            seen = at_resolution(views, grid.stride)
            parts.append(head(part, seen, features, backend, rendered=_pooled(rendered, grid.stride)).tensors())
            start += count
        joined = {
            group: parts[0][group] if GROUPS[group].of_views else torch.cat([part[group] for part in parts], 1)
            for group in parts[0]
        }
        return ProximalWeights(**joined)


def at_resolution(views: Views, stride: int) -> Views:
    """The same cameras with images of a ``stride``-th of the resolution (means over squares of pixels).

    Raises:
        ValueError: if the images do not divide by it.
    """
    if stride == 1:
        return views
    height, width = views.image_size
    if height % stride or width % stride:
        raise ValueError(f"Images of {height}x{width} do not divide by the stride {stride} of a grid.")
    scale = views.intrinsics.new_tensor([1 / stride, 1 / stride, 1.0])[:, None]
    return views.replace(
        images=_pooled(views.given_images, stride),
        image_size=(height // stride, width // stride),
        intrinsics=views.intrinsics * scale,
    )


def _part(gaussians: Gaussians, which: slice) -> Gaussians:
    return gaussians.map(lambda tensor: tensor[:, which])


def _pooled(images: Float[Tensor, "B V 3 H W"], stride: int) -> Float[Tensor, "B V 3 h w"]:
    return functional.avg_pool2d(images.flatten(0, 1), stride).unflatten(0, images.shape[:2])
