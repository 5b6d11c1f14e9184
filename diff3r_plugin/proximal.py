"""The proximal weights Λ: how strongly each unknown is held at what the network predicted."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.argument_types import kind
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups import GROUPS

Weight = Float[Tensor, "..."] | float


class ProximalWeights:
    """One positive tensor (or number) per group of unknowns, broadcastable over ``[B, N, d]``.

    A large weight holds a parameter near its prediction, a small one lets it move; nothing else is implied.
    The energy is a sum of squares over pixels and channels (images in [0, 1]) and unknowns are dimensionless, so 1
    means: moving by one unit (one own size, a factor e in scale, one logit) costs as much as an error of 1 in one
    channel of one pixel.

    Args:
        weights: By group (:data:`diff3r_plugin.groups.GROUPS`), numbers or tensors of one weight for all unknowns of an
            owner or one for each: means ``[B, N, 1 | 3]``, covariance ``[B, N, 1 | 6]``, opacity ``[B, N, 1]``, sh_dc
            ``[B, N, 1 | 3]``, sh_rest ``[B, N, 1 | 3 (K - 1)]``, poses ``[B, V, 1 | 6]``, exposure ``[B, V, 1 | 6]``;
            None as if it were not given. Each is an attribute of its name, None for groups without a weight.

    Raises:
        TypeError: if a weight is neither a number nor a tensor.
        ValueError: for an unknown group; when used, for a group that is optimized but has no weight, a weight that is
            not positive and finite, or a shape that does not broadcast.

    Example:
        >>> from diff3r_plugin import ProximalWeights
        >>> ProximalWeights(means=1.0, opacity=0.1).means
        1.0
    """

    def __init__(self, **weights: Weight | None) -> None:
        for group, value in weights.items():
            if group not in GROUPS:
                raise ValueError(f"Unknown group {group!r} among the weights; known are {', '.join(GROUPS)}.")
            if value is not None and (isinstance(value, bool) or not isinstance(value, (Real, Tensor))):
                raise TypeError(f"The weight of {group} must be a number or a tensor, got {kind(value)}.")
        self._weights = {group: weight for group in GROUPS if (weight := weights.get(group)) is not None}

    def __getattr__(self, group: str) -> Any:
        if group in GROUPS:
            return self.__dict__.get("_weights", {}).get(group)
        raise AttributeError(f"{type(self).__name__} has no group {group!r}; known are {', '.join(GROUPS)}.")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{group}={value!r}' for group, value in self._weights.items())})"

    def replace(self, **weights: Weight | None) -> ProximalWeights:
        """The same weights but for these groups."""
        return ProximalWeights(**{**self._weights, **weights})

    @classmethod
    def of(cls, weights: ProximalWeights | Mapping[str, Tensor | float] | Tensor | float) -> ProximalWeights:
        """From a number for all groups, a mapping of groups, or weights as they are."""
        if isinstance(weights, ProximalWeights):
            return weights
        if isinstance(weights, Mapping):
            return cls(**weights)
        if not isinstance(weights, (Real, Tensor)):
            raise TypeError(
                f"weights must be a number, a tensor, a mapping of groups or ProximalWeights, got {kind(weights)}. "
                "One weight for each group: {'means': 0.01, 'opacity': 0.1, ...}."
            )
        return cls(**dict.fromkeys(GROUPS, weights))

    def tensors(self) -> dict[str, Tensor | float]:
        """The groups that have a weight."""
        return dict(self._weights)

    def flatten(self, coordinates: Coordinates, like: Tensor) -> Float[Tensor, "B P"]:
        """Λ in the order of θ, in the dtype and on the device of ``like`` ``[B, P]``; differentiable."""
        parts: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        doubts: dict[str, Tensor] = {}
        for group, (count, size) in coordinates.shapes.items():
            value = self._weights.get(group)
            if value is None:
                raise ValueError(
                    f"The group {group!r} is optimized but has no proximal weight; give one, or leave the group out of "
                    f"TTOConfig.groups."
                )
            if isinstance(value, Tensor):
                value = value.to(like.device, like.dtype)
                doubts[group] = ~((value > 0) & (value < torch.inf)).all()
            elif 0 < value < float("inf"):
                value = like.new_full((), value)  # no copy from the host, for which it would wait
            else:
                raise _unusable(group, torch.tensor([float(value)]))
            values[group] = value
            try:
                parts[group] = value.expand(len(like), count, size)
            except RuntimeError:
                raise ValueError(
                    f"The proximal weights of {group} have shape {list(value.shape)}, which does not broadcast to "
                    f"{[len(like), count, size]}."
                ) from None
        if doubts:  # asked for together
            for group, doubtful in zip(doubts, torch.stack(list(doubts.values())).tolist(), strict=True):
                if doubtful:
                    raise _unusable(group, values[group])
        return coordinates.join(parts)


def _unusable(group: str, value: Tensor) -> ValueError:
    bad = value[~((value > 0) & value.isfinite())].flatten()
    return ValueError(
        f"Proximal weights must be positive and finite; {group} holds {bad[0].item()} ({len(bad)} of {value.numel()} "
        "values). Use exp or softplus on raw outputs."
    )
