"""What the heads share on the way in: the host's feature map, and maps that a broken scene cannot corrupt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def require_channels(features: Float[Tensor, "B V C h w"] | None, channels: int) -> None:
    """Raises:
    ValueError: if a tapped feature map has other channels than a head was made for; none is one of 0 channels.

    Example:
        >>> from diff3r_plugin.heads.inputs import require_channels
        >>> require_channels(None, 0)
    """
    found = 0 if features is None else features.shape[2]
    if found != channels:
        raise ValueError(f"The head was made for {channels} feature channels, got {found}.")


def resized(features: Float[Tensor, "B V C h w"], size: tuple[int, int], like: Tensor) -> Float[Tensor, "B V C H W"]:
    """A tapped feature map at the resolution of the images, detached and in the type of ``like``."""
    flat = features.detach().flatten(0, 1).to(like.dtype)
    return functional.interpolate(flat, size=size, mode="bilinear", align_corners=False).unflatten(
        0, features.shape[:2]
    )


def joined(maps: Sequence[Tensor], dim: int, like: Tensor) -> Tensor:
    """All inputs along ``dim`` in the type of ``like``; a scene the network broke must not break the head's weights."""
    return torch.nan_to_num(torch.cat([m.to(like.dtype) for m in maps], dim), 0.0, 0.0, 0.0)
