"""Lenses that distort, and images without what they did."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.io.errors import require

LARGEST_ZOOM = 2.0
"""An image of which more than half of the side would be lost is not undistorted."""
BORDER_SAMPLES = 65


class AnyLens(Protocol):
    """A lens: where it shows what a pinhole at the same place would see elsewhere."""

    @property
    def distorts(self) -> bool:
        """Whether it is anything but a pinhole."""
        ...

    def distort(self, rays: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where rays (x, y, 1) are seen, in focal lengths from the principal point."""
        ...


@dataclass(frozen=True)
class Lens:
    """Radial and tangential distortion, as OpenCV and COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV and FULL_OPENCV have it.

    A ray (x, y, 1) is seen at x (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶) + 2 p1 x y + p2 (r² + 2 x²),
    and likewise in y.

    Args:
        k1: Of r².
        k2: Of r⁴.
        p1: First tangential.
        p2: Second tangential.
        k3: Of r⁶.
        k4: Of r², in the denominator.
        k5: Of r⁴, in the denominator.
        k6: Of r⁶, in the denominator.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    @property
    def distorts(self) -> bool:
        """Whether any coefficient differs from zero."""
        return any(getattr(self, field.name) for field in fields(self))

    def distort(self, rays: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where rays (x, y, 1) are seen, as (x, y) of a pinhole's rays."""
        x, y = rays.unbind(-1)
        squared = x * x + y * y
        radial = 1 + squared * (self.k1 + squared * (self.k2 + squared * self.k3))
        radial = radial / (1 + squared * (self.k4 + squared * (self.k5 + squared * self.k6)))
        return torch.stack(
            [
                x * radial + 2 * self.p1 * x * y + self.p2 * (squared + 2 * x * x),
                y * radial + 2 * self.p2 * x * y + self.p1 * (squared + 2 * y * y),
            ],
            -1,
        )

    def __str__(self) -> str:
        named = {name: getattr(self, name) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
        return ", ".join(f"{name}={value:g}" for name, value in named.items() if value)


@dataclass(frozen=True)
class FisheyeLens:
    """An equidistant fisheye, as OpenCV's and COLMAP's OPENCV_FISHEYE and its simpler relatives have it.

    A ray at the angle θ from the axis is seen at the distance θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸).

    Args:
        k1: Of θ².
        k2: Of θ⁴.
        k3: Of θ⁶.
        k4: Of θ⁸.
    """

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0

    @property
    def distorts(self) -> bool:
        """Always: θ is not tan θ."""
        return True

    def distort(self, rays: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where rays (x, y, 1) are seen, in focal lengths."""
        radius = rays.norm(dim=-1, keepdim=True)
        angle = radius.atan()
        squared = angle * angle
        seen = angle * (1 + squared * (self.k1 + squared * (self.k2 + squared * (self.k3 + squared * self.k4))))
        return rays * torch.where(radius > 1e-12, seen / radius.clamp_min(1e-12), torch.ones_like(radius))

    def __str__(self) -> str:
        named = ", ".join(f"{f.name}={getattr(self, f.name):g}" for f in fields(self) if getattr(self, f.name))
        return f"a fisheye{', ' if named else ''}{named}"


@dataclass(frozen=True)
class ColmapLens:
    """A lens of any other of COLMAP's camera models, evaluated by ``pycolmap``.

    Args:
        model: Name of the model.
        params: The model's parameters for a focal length of 1 and a principal point at 0.
    """

    model: str
    params: tuple[float, ...]

    @property
    def distorts(self) -> bool:
        """Always: these models are for lenses that do."""
        return True

    def distort(self, rays: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Where rays (x, y, 1) are seen, in focal lengths.

        Raises:
            MissingPackageError: without the extra ``diff3r-plugin[sfm]``.
        """
        pycolmap = require("pycolmap", f"Undistorting COLMAP's {self.model}", "sfm")
        camera = pycolmap.Camera(model=self.model, width=1, height=1, params=list(self.params))
        flat = rays.reshape(-1, 2).double()
        points = torch.cat([flat, torch.ones_like(flat[:, :1])], -1).numpy()
        seen = torch.from_numpy(np.asarray(camera.img_from_cam(points), dtype=np.float64))
        return seen.reshape(rays.shape).to(rays)

    def __str__(self) -> str:
        return f"{self.model} {', '.join(f'{value:g}' for value in self.params)}"


@dataclass(frozen=True, eq=False)
class Undistortion:
    """From an image that a lens took to that of a pinhole at the same place.

    Args:
        lens: The lens.
        lens_intrinsics: Of the image as it was taken, ``[3, 3]``, pixels.
        intrinsics: Of the image without distortion, ``[3, 3]``, pixels.
        size: (H, W) that both belong to.
    """

    lens: AnyLens
    lens_intrinsics: Float[Tensor, "3 3"]
    intrinsics: Float[Tensor, "3 3"]
    size: tuple[int, int]

    def apply(self, image: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The image (or mask) of the pinhole, in the resolution of the given one; bilinear."""
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


def undistortion(lens: AnyLens, intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]) -> Undistortion:
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
