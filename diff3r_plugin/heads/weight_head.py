"""What heads that predict proximal weights share: a learned base for each group, a bounded change for each Gaussian."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.groups import GROUPS
from diff3r_plugin.proximal import ProximalWeights

RANGE = 3.0
"""A Gaussian's weights stay within exp(± RANGE) of their group's base."""

VIEW_RANGE = 6.0
"""A view's weights stay within exp(± VIEW_RANGE) of their group's base: from held in place to free."""


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def starting_weights(groups: Iterable[str] = GROUPS) -> dict[str, float]:
    """What a head starts from for each of these groups.

    Example:
        >>> from diff3r_plugin.heads.weight_head import starting_weights
        >>> starting_weights(["means", "sh_dc"])
        {'means': 0.01, 'sh_dc': 0.1}
    """
    return {group: GROUPS[group].weight for group in groups}


class WeightHead(nn.Module):
    """Base of the heads: one positive weight per Gaussian and group, exp(base + change).

    Args:
        groups: Which groups need weights.
        initial_weights: Starting weight per group; missing groups take that of their record in ``groups.GROUPS``.

    Raises:
        ValueError: for an unknown group, or a starting weight that is not positive and finite.

    Attributes:
        groups: The groups, in the order of :data:`~diff3r_plugin.groups.GROUPS`.
        gaussian_groups: Those of them that each Gaussian has a weight of its own for.
        view_groups: Those that each view has a weight of its own for.
        log_base: Logarithm of each group's base, learned.
    """

    def __init__(self, groups: Sequence[str], initial_weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        wrong = [g for g in (*groups, *(initial_weights or {})) if g not in GROUPS]
        if wrong:
            raise ValueError(f"Unknown group {wrong[0]!r}; known are {', '.join(GROUPS)}.")
        start = {**starting_weights(), **(initial_weights or {})}
        self.groups = tuple(g for g in GROUPS if g in groups)
        bad = {g: start[g] for g in self.groups if not 0 < start[g] < math.inf}
        if bad:
            raise ValueError(f"initial_weights must be positive and finite, got {bad}.")
        self.gaussian_groups = tuple(g for g in self.groups if not GROUPS[g].of_views)
        self.view_groups = tuple(g for g in self.groups if GROUPS[g].of_views)
        self.log_base = nn.Parameter(torch.tensor([math.log(start[g]) for g in self.groups]))

    def base_weights(self) -> dict[str, float]:
        """The learned weight of each group before any per-Gaussian change."""
        return dict(zip(self.groups, self.log_base.detach().exp().tolist(), strict=True))

    def changed_by(
        self, changes: Float[Tensor, "G B N"], num_views: int, view_changes: Float[Tensor, "Gv B V"] | None = None
    ) -> ProximalWeights:
        """Weights from one number for each Gaussian and each of its groups; zero is the base itself.

        Args:
            changes: In the order of ``gaussian_groups``.
            num_views: V.
            view_changes: In the order of ``view_groups``; zero by default.
        """
        if view_changes is None:
            view_changes = changes.new_zeros(len(self.view_groups), changes.shape[1], num_views)
        found = {
            **dict(zip(self.gaussian_groups, RANGE * torch.tanh(changes / RANGE), strict=True)),
            **dict(zip(self.view_groups, VIEW_RANGE * torch.tanh(view_changes / VIEW_RANGE), strict=True)),
        }
        bases = dict(zip(self.groups, self.log_base, strict=True))
        return ProximalWeights(**{group: (bases[group] + change).exp()[..., None] for group, change in found.items()})


def starting_at_zero(layer: Layer) -> Layer:
    """The last layer of a head, which changes nothing before it is trained."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
