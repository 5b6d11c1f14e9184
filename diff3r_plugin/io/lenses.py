"""Lenses that distort, and images without what they did."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LARGEST_ZOOM = 2.0
"""An image of which more than half of the side would be lost is not undistorted."""
BORDER_SAMPLES = 65


@dataclass(frozen=True)
class Lens:
    """Radial and tangential distortion, as OpenCV and COLMAP's SIMPLE_RADIAL, RADIAL and OPENCV models have it.

    A ray (x, y, 1) is seen at x (1 + k1 r² + k2 r⁴) + 2 p1 x y + p2 (r² + 2 x²), and likewise in y.

    Args:
        k1: Of r².
        k2: Of r⁴.
        p1: First tangential.
        p2: Second tangential.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def distorts(self) -> bool:
        """Whether any coefficient differs from zero."""
        return any((self.k1, self.k2, self.p1, self.p2))

    def distort(self, rays: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where rays (x, y, 1) are seen, as (x, y) of a pinhole's rays."""
        x, y = rays.unbind(-1)
        squared = x * x + y * y
        radial = 1 + squared * (self.k1 + squared * self.k2)
        return torch.stack(
            [
                x * radial + 2 * self.p1 * x * y + self.p2 * (squared + 2 * x * x),
                y * radial + 2 * self.p2 * x * y + self.p1 * (squared + 2 * y * y),
            ],
            -1,
        )

    def __str__(self) -> str:
        named = {name: getattr(self, name) for name in ("k1", "k2", "p1", "p2")}
        return ", ".join(f"{name}={value:g}" for name, value in named.items() if value)


@dataclass(frozen=True, eq=False)
class Undistortion:
    """From an image that a lens took to that of a pinhole at the same place.

    Args:
        lens: The lens.
        lens_intrinsics: Of the image as it was taken, ``[3, 3]``, pixels.
        intrinsics: Of the image without distortion, ``[3, 3]``, pixels.
        size: (H, W) that both belong to.
    """

    lens: Lens
    lens_intrinsics: Float[Tensor, "3 3"]
    intrinsics: Float[Tensor, "3 3"]
    size: tuple[int, int]

    def apply(self, image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """The image of the pinhole, in the resolution of the given one; bilinear."""
        height, width = image.shape[1:]
        scale = torch.tensor([self.size[1] / width, self.size[0] / height], dtype=torch.float64)
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=torch.float64) + 0.5,
            torch.arange(width, dtype=torch.float64) + 0.5,
            indexing="ij",
        )
        seen = self.seen_at(torch.stack([columns, rows], -1) * scale)
        normalized = 2 * seen / torch.tensor([self.size[1], self.size[0]], dtype=torch.float64) - 1
        return F.grid_sample(
            image[None], normalized[None].to(image), mode="bilinear", padding_mode="border", align_corners=False
        )[0]

    def seen_at(self, pixels: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where the image as it was taken has what the pinhole's has at (column, row)."""
        pinhole, lens = self.intrinsics.double(), self.lens_intrinsics.double()
        rays = (pixels - pinhole[:2, 2]) / pinhole.diagonal()[:2]
        return self.lens.distort(rays) * lens.diagonal()[:2] + lens[:2, 2]


def undistortion(lens: Lens, intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]) -> Undistortion:
    """The pinhole of the shortest focal length, not below the lens's own, whose image the lens saw all of.

    Args:
        lens: The lens.
        intrinsics: Of the image as it was taken, ``[3, 3]``, pixels.
        size: (H, W).

    Raises:
        ValueError: if no focal length up to twice the lens's own does.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io.lenses import Lens, undistortion
        >>> matrix = torch.tensor([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
        >>> undistortion(Lens(k1=-0.1), matrix, (100, 100)).intrinsics[0, 0].item()  # a barrel saw more
        100.0
        >>> undistortion(Lens(k1=0.1), matrix, (100, 100)).intrinsics[0, 0].item() > 100
        True
    """
    height, width = size
    along = torch.linspace(0, 1, BORDER_SAMPLES, dtype=torch.float64)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    border = torch.cat([torch.stack(pair, -1) for pair in ((along, zero), (along, one), (zero, along), (one, along))])
    extent = torch.tensor([width, height], dtype=torch.float64)

    def zoomed(zoom: float) -> Undistortion:
        matrix = intrinsics.double().clone()
        matrix[0, 0] *= zoom
        matrix[1, 1] *= zoom
        return Undistortion(lens, intrinsics.double(), matrix, size)

    def whole(zoom: float) -> bool:
        seen = zoomed(zoom).seen_at(border * extent)
        return bool(((seen >= -1e-9) & (seen <= extent + 1e-9)).all())

    if whole(1.0):
        return zoomed(1.0)
    low, high = 1.0, LARGEST_ZOOM
    if not whole(high):
        raise ValueError(f"a lens with {lens} distorts too much to be undone")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if whole(middle) else (middle, high)
    return zoomed(high)
