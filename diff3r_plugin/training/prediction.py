"""What a network answers to context images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians


@dataclass(frozen=True, eq=False)
class Prediction:
    """Gaussians of B scenes, and the cameras of their context views where the network predicts those; with their graph.

    Args:
        gaussians: The scenes: activated values, in the frame of the cameras.
        world_to_camera: ``[B, V, 4, 4]`` of the context views, OpenCV axes; None: those of the data.
        intrinsics: ``[B, V, 3, 3]`` of the context views, in pixels; None: those of the data.
        features: ``[B, V, C, h, w]`` for the head, at any resolution; None: it does without.
    """

    gaussians: Gaussians
    world_to_camera: Float[Tensor, "B V 4 4"] | None = None
    intrinsics: Float[Tensor, "B V 3 3"] | None = None
    features: Float[Tensor, "B V C h w"] | None = None
