"""Gaussians that a host's decoder drops before it renders: neither rendered nor moved, and given back as they were."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians


@dataclass(frozen=True, eq=False)
class Pruned:
    """Which Gaussians of a prediction are rendered (``HostAdapter.visible``).

    Args:
        kept: ``[B, N]``, those that the decoder keeps.
        opacities: ``[B, N]``, of all Gaussians as they were predicted.

    Raises:
        ValueError: if ``kept`` is no mask over the Gaussians.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.plugin.refining.pruned import Pruned
        >>> means, covariances = torch.zeros(1, 2, 3), torch.eye(3).expand(1, 2, 3, 3)
        >>> g = Gaussians(means, covariances, torch.tensor([[0.8, 0.001]]), torch.zeros(1, 2, 3, 1))
        >>> pruned = Pruned(g.opacities > 0.005, g.opacities)
        >>> pruned.rendered(g).opacities.tolist() == [[g.opacities[0, 0].item(), 0.0]]
        True
        >>> torch.equal(pruned.whole(pruned.rendered(g)).opacities, g.opacities)
        True
    """

    kept: Bool[Tensor, "B N"]
    opacities: Float[Tensor, "B N"]

    def __post_init__(self) -> None:
        if self.kept.dtype != torch.bool or self.kept.shape != self.opacities.shape:
            raise ValueError(
                f"visible() must give bool {list(self.opacities.shape)}, one for each Gaussian, or None; got "
                f"{self.kept.dtype} {list(self.kept.shape)}."
            )

    def rendered(self, gaussians: Gaussians) -> Gaussians:
        """The scene with opacity 0 for those that are not rendered, which the solver leaves as they are."""
        return gaussians.replace(opacities=torch.where(self.kept, gaussians.opacities, 0))

    def whole(self, refined: Gaussians) -> Gaussians:
        """The refined scene with the others as opaque as they were predicted."""
        return refined.replace(opacities=torch.where(self.kept, refined.opacities, self.opacities))
