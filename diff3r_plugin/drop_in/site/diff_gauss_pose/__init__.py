"""Stand-in for the rasterizer of SPFSplat, served by diff3r-plugin (runs on a CPU, Apache-2.0)."""

from diff3r_plugin.drop_in.pose_rasterizer import GaussianRasterizationSettings, GaussianRasterizer

__all__ = ["GaussianRasterizationSettings", "GaussianRasterizer"]
