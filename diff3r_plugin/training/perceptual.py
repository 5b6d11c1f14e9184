"""LPIPS as a loss: a fixed network beside the trained one, no part of its parameters or checkpoints."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor


class Perceptual:
    """LPIPS with a VGG trunk.

    Raises:
        ImportError: if the package ``lpips`` is missing.
    """

    def __init__(self) -> None:
        try:
            import lpips
        except ImportError as error:
            raise ImportError(
                "the LPIPS loss needs the package lpips: pip install lpips, or leave its weight at 0."
            ) from error
        self._network: Any = lpips.LPIPS(net="vgg", verbose=False).eval().requires_grad_(False)

    def __call__(self, rendered: Float[Tensor, "B V 3 H W"], images: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, ""]:
        """Mean over all images."""
        self._network.to(rendered.device)
        return self._network(rendered.flatten(0, 1), images.flatten(0, 1), normalize=True).mean()
