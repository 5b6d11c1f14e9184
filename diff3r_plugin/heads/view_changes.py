"""One number for each view and group, from what the view looks like next to the others: which camera to doubt."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.heads.weight_head import starting_at_zero


class ViewChanges(nn.Module):
    """Pools the features of each view and compares them with the mean of the others'; zero before training.

    Views are treated alike, in any order and number.

    Args:
        channels: Of the features, and of the hidden layer.
        groups: How many numbers a view.

    Example:
        >>> import torch
        >>> from diff3r_plugin.heads.view_changes import ViewChanges
        >>> ViewChanges(8, groups=2)(torch.rand(1, 3, 8, 4, 4)).shape
        torch.Size([2, 1, 3])
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6 * channels, channels), nn.GELU(), starting_at_zero(nn.Linear(channels, groups))
        )

    def forward(self, features: Float[Tensor, "B V C H W"]) -> Float[Tensor, "G B V"]:
        """The numbers, not bounded."""
        return rearrange(self.layers(next_to_others(features)), "b v g -> g b v")


def next_to_others(features: Float[Tensor, "B V C H W"]) -> Float[Tensor, "B V 6*C"]:
    """Mean and maximum of each view's features, the mean of the other views', and how far they are apart.

    Example:
        >>> import torch
        >>> from diff3r_plugin.heads.view_changes import next_to_others
        >>> next_to_others(torch.rand(1, 3, 8, 4, 4)).shape
        torch.Size([1, 3, 48])
    """
    pooled = torch.cat([features.mean((-2, -1)), features.amax((-2, -1))], -1)
    others = (pooled.sum(1, keepdim=True) - pooled) / max(pooled.shape[1] - 1, 1)
    return torch.cat([pooled, others, (pooled - others).abs()], -1)
