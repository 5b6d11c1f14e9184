"""What the whole package knows of one group of unknowns, and what a chart of images has to give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from jaxtyping import Float
from torch import Tensor


class LocalImages(Protocol):
    """Images at one θ and one rendering, with their derivatives by both.

    Attributes:
        image: ``[B, V, 3, H, W]``.
        slope: d image / d rendering, number by number; broadcastable to the image.
    """

    image: Float[Tensor, "B V 3 H W"]
    slope: Tensor

    def jvp(self, own: Float[Tensor, "B V d"]) -> Float[Tensor, "B V 3 H W"]:
        """Change of the images for a change of θ."""
        ...

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V d"]:
        """Gradient by θ from a gradient by the images."""
        ...

    def gram_diagonal(self, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V d"]:
        """The diagonal of JᵀWJ in θ."""
        ...


class ImageChart(Protocol):
    """What each view does to the colors that are rendered for it, pixel by pixel and channel by channel.

    At θ = 0 images are the renderings.
    """

    def apply(self, theta: Float[Tensor, "B V d"], rendering: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V 3 H W"]:
        """The images at θ; differentiable by both."""
        ...

    def at(self, theta: Float[Tensor, "B V d"], rendering: Float[Tensor, "B V 3 H W"]) -> LocalImages:
        """The images with their derivatives."""
        ...


@dataclass(frozen=True)
class Group:
    """One group of unknowns.

    A group that acts on what is rendered needs this record, with its chart, in :data:`~diff3r_plugin.groups.GROUPS`,
    and nothing else: settings, weights, heads, solvers and products follow. Groups of a Gaussian, and poses, are known
    to the coordinates and to the kernels as well.

    Args:
        name: In settings, weights and messages.
        owner: What has unknowns of its own: each "gaussian" or each "view".
        size: Numbers of each; None: three for each SH coefficient above degree 0.
        rate: Adam's step in the dimensionless coordinates, positive.
        weight: Proximal weight that a head starts from, positive.
        optimized: Whether it is optimized by default.
        images: The chart of a group of views that acts on what is rendered.
    """

    name: str
    owner: Literal["gaussian", "view"]
    size: int | None
    rate: float
    weight: float
    optimized: bool = True
    images: ImageChart | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name={self.name!r} must be an identifier: it stands in settings, as weights.NAME.")
        if self.images is not None and (self.owner != "view" or self.size is None):
            raise ValueError(f"{self.name} acts on images: owner must be 'view' and size a number.")
        for what, value in (("rate", self.rate), ("weight", self.weight)):
            if not value > 0:
                raise ValueError(f"{what}={value!r} of group {self.name!r} must be positive.")

    @property
    def of_views(self) -> bool:
        """Whether each view has its own, not each Gaussian."""
        return self.owner == "view"

    def numbers(self, sh_coefficients: int) -> int:
        """Unknowns of each owner in scenes with so many SH coefficients a color channel."""
        return 3 * (sh_coefficients - 1) if self.size is None else self.size
