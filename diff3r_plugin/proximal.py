"""The proximal weights Λ: how strongly each unknown is held at what the network predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.argument_types import kind
from diff3r_plugin.config import GROUPS
from diff3r_plugin.coordinates import Coordinates

Weight = Float[Tensor, "..."] | float


@dataclass(frozen=True, eq=False)
class ProximalWeights:
    """One positive tensor (or number) per group of unknowns, broadcastable over ``[B, N, d]``.

    A large weight holds a parameter near its prediction, a small one lets it move; nothing else is implied.
    The energy is a sum of squares over pixels and channels (images in [0, 1]) and unknowns are dimensionless, so 1
    means: moving by one unit (one own size, a factor e in scale, one logit) costs as much as an error of 1 in one
    channel of one pixel.

    Args:
        means: ``[B, N, 1 | 3]``.
        covariance: ``[B, N, 1 | 6]``.
        opacity: ``[B, N, 1]``.
        sh_dc: ``[B, N, 1 | 3]``.
        sh_rest: ``[B, N, 1 | 3 (K - 1)]``.
        poses: ``[B, V, 1 | 6]``.
        exposure: ``[B, V, 1 | 6]``.

    Raises:
        TypeError: if a weight is neither a number nor a tensor.
        ValueError: (when used) for a group that moves but has no weight, a weight that is not positive and finite,
            or a shape that does not broadcast.

    Example:
        >>> from diff3r_plugin import ProximalWeights
        >>> ProximalWeights(means=1.0, opacity=0.1).means
        1.0
    """

    means: Weight | None = None
    covariance: Weight | None = None
    opacity: Weight | None = None
    sh_dc: Weight | None = None
    sh_rest: Weight | None = None
    poses: Weight | None = None
    exposure: Weight | None = None

    @classmethod
    def of(cls, weights: ProximalWeights | Mapping[str, Tensor | float] | Tensor | float) -> ProximalWeights:
        """From a number for all groups, a mapping of groups, or weights as they are."""
        if isinstance(weights, ProximalWeights):
            return weights
        if isinstance(weights, Mapping):
            unknown = [g for g in weights if g not in GROUPS]
            if unknown:
                raise ValueError(f"Unknown group {unknown[0]!r} among the weights; known are {', '.join(GROUPS)}.")
            return cls(**weights)
        if not isinstance(weights, (Real, Tensor)):
            raise TypeError(
                f"weights must be a number, a tensor, a mapping of groups or ProximalWeights, got {kind(weights)}. "
                "One weight for each group: {'means': 0.01, 'opacity': 0.1, ...}."
            )
        return cls(**{g: weights for g in GROUPS})  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (Real, Tensor))):
                raise TypeError(f"The weight of {field.name} must be a number or a tensor, got {kind(value)}.")

    def tensors(self) -> dict[str, Tensor | float]:
        """The groups that have a weight."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    def flatten(self, coordinates: Coordinates, like: Tensor) -> Float[Tensor, "B P"]:
        """Λ in the order of θ, in the dtype and on the device of ``like`` ``[B, P]``; differentiable."""
        parts = {}
        for group, (count, size) in coordinates.shapes.items():
            value = getattr(self, group)
            if value is None:
                raise ValueError(
                    f"The group {group!r} moves but has no proximal weight; give one, or leave the group out of "
                    f"TTOConfig.groups."
                )
            value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
            good = (value > 0) & value.isfinite()
            if not good.all():
                raise ValueError(
                    f"Proximal weights must be positive and finite; {group} holds {value[~good].flatten()[0].item()} "
                    f"({int((~good).sum())} of {value.numel()} values). Use exp or softplus on raw outputs."
                )
            try:
                parts[group] = value.expand(len(like), count, size)
            except RuntimeError:
                raise ValueError(
                    f"The proximal weights of {group} have shape {list(value.shape)}, which does not broadcast to "
                    f"{[len(like), count, size]}."
                ) from None
        return coordinates.join(parts)
