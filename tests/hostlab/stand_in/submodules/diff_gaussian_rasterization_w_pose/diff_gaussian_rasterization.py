"""The dialect with poses, whose settings have the dilation too (``low_pass``)."""

from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer

__all__ = ["GaussianRasterizationSettings", "GaussianRasterizer"]
