"""What a compiled backend offers for the linearization in θ: its products with the Gaussians' charts applied inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading.structures import CHART_GROUPS, INPUTS, Chart, Inputs, Vector
from diff3r_plugin.render import GaussianGram
from diff3r_plugin.render.kernel_inputs import KernelInputs
from diff3r_plugin.views import Views


class ChartedRendering(Protocol):
    """A rendering at one θ whose products take and give vectors of θ; cameras come and go as matrices.

    Vectors ``[B, P]`` are contiguous, of θ's dtype and on its device. What stands in them of poses is neither read nor
    written.

    Attributes:
        image: ``[B, V, 3, H, W]``.
        scene: The inputs of the kernels, which check arguments.
    """

    image: Float[Tensor, "B V 3 H W"]

    @property
    def scene(self) -> KernelInputs: ...

    def jvp(self, tangent: Float[Tensor, "B P"], cameras: Tensor | None) -> Float[Tensor, "B V 3 H W"]:
        """J v, with cameras that move by ``[B, V, 4, 4]``, if given."""
        ...

    def vjp(
        self, cotangent: Float[Tensor, "B V 3 H W"], weights: Tensor | None, center: Tensor | None, with_cameras: bool
    ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B V 4 4"] | None]:
        """Jᵀ u + weights · (θ − center), and the cotangent of the cameras, if wanted."""
        ...

    def gauss_newton_product(
        self,
        tangent: Float[Tensor, "B P"],
        cameras: Tensor | None,
        pixel_weights: Float[Tensor, "B V H W"],
        diagonal: Float[Tensor, "B P"],
        out: Float[Tensor, "B P"] | None,
    ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B V 4 4"] | None]:
        """JᵀWJ v + diagonal · v, into ``out`` if given; and the cotangent of the cameras where these move."""
        ...

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B P"]:
        """The diagonal of JᵀWJ, for views that are not antialiased (whose dimming its short sums leave out)."""
        ...

    def gram(self, pixel_weights: Float[Tensor, "B V H W"]) -> GaussianGram:
        """The blocks of JᵀWJ in the Gaussians' own numbers."""
        ...

    def weighted_distance(self, weights: Float[Tensor, "B P"], center: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """Σ weights · (θ − center)²."""
        ...


def chart_at(coordinates: Coordinates, theta: Float[Tensor, "B P"]) -> Chart:
    """The C structure of the charts at θ; points at ``theta`` and at the anchors, which must outlive it."""
    return Chart(
        coordinates.num_unknowns,
        *(coordinates.first_unknown(group) for group in CHART_GROUPS),
        coordinates.covariance_kind,
        theta.data_ptr(),
        coordinates.anchors.data_ptr(),
    )


def decode(
    coordinates: Coordinates,
    empty: Callable[[tuple[int, ...], torch.dtype], Tensor],
    kernel: Callable[[Inputs, Vector], object],
) -> Gaussians:
    """The scene at a chart's θ by a kernel; what does not move is the reference's own tensor.

    Args:
        coordinates: The map from θ to scenes.
        empty: Makes rooms for the kernel.
        kernel: Reads the reference from the first structure and writes where the second one points.
    """
    reference = coordinates.plain_reference
    B, N, K = reference.batch_size, reference.num_gaussians, reference.harmonics.shape[-1]

    def room(like: Tensor, *groups: str) -> Tensor:
        if not any(group in coordinates.shapes for group in groups):
            return like
        return empty(tuple(like.shape), like.dtype)

    scene = Gaussians(
        empty((B, N, 3), reference.dtype),
        room(reference.covariance_matrices, "covariance"),
        empty((B, N), reference.dtype),
        room(reference.harmonics, "sh_dc", "sh_rest"),
    )
    own = reference.tensors()
    out = [None if a is b else a.data_ptr() for a, b in zip(scene.tensors(), own, strict=True)]
    # Decoding reads no camera.
    given = dict(zip(INPUTS[:4], own, strict=True))
    kernel(
        Inputs(B, 0, N, K, 0, 0, *(given[name].data_ptr() if name in given else None for name in INPUTS), 0.0, 0),
        Vector(*out, None),
    )
    return scene


Charted = Callable[[Coordinates, Tensor, Views], ChartedRendering]
"""Makes a rendering at θ ``[B, P]`` (contiguous, no graph), seen by cameras that stand where θ puts them."""
