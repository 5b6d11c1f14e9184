"""The camera of one rendering."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class GaussianRasterizationSettings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool = False
    debug: bool = False
    projmatrix_raw: Tensor | None = None
    low_pass: float = 0.3  # added to the diagonal of the screen-space covariance, in square pixels
