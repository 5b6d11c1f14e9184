"""Where a network's Gaussians come from: the pixels of some grid over each view, or nowhere in particular."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelGrid:
    """Gaussians that stand on a grid of pixels of every view, in the order view, row, column, sample.

    Args:
        stride: Image pixels for each step of the grid: 4 for a grid of a quarter of the resolution.
        per_pixel: Gaussians for each pixel of the grid.

    Raises:
        ValueError: if either is less than one.

    Example:
        >>> from diff3r_plugin.alignment import PixelGrid
        >>> PixelGrid(stride=4).count(views=2, height=64, width=64)
        512
    """

    stride: int = 1
    per_pixel: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1 or self.per_pixel < 1:
            raise ValueError(f"A PixelGrid has a stride and a number of Gaussians of at least 1, got {self}.")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the grid over an image."""
        return height // self.stride, width // self.stride

    def count(self, views: int, height: int, width: int) -> int:
        """Gaussians on the grids of this many views."""
        rows, columns = self.size(height, width)
        return views * rows * columns * self.per_pixel
