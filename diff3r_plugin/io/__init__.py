"""Gaussians, cameras and images from files of other tools, and back.

>>> import tempfile, torch
>>> from diff3r_plugin import Gaussians
>>> from diff3r_plugin.io import read_gaussians, write_ply
>>> covariances = 0.01 * torch.eye(3).expand(1, 5, 3, 3)
>>> scene = Gaussians(torch.rand(1, 5, 3), covariances, torch.full((1, 5), 0.5), torch.zeros(1, 5, 3, 1))
>>> folder = tempfile.mkdtemp()
>>> write_ply(f"{folder}/scene.ply", scene)
>>> read_gaussians(f"{folder}/scene.ply").num_gaussians
5
"""

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.io.colmap import read_colmap, read_colmap_points
from diff3r_plugin.io.errors import FileError, FileWarning, MissingPackageError
from diff3r_plugin.io.images import image_size, read_image, write_image
from diff3r_plugin.io.lenses import ColmapLens, FisheyeLens, Lens, Undistortion
from diff3r_plugin.io.npz import read_npz, write_npz
from diff3r_plugin.io.ply import read_ply, read_ply_points, write_ply
from diff3r_plugin.io.points import PointCloud, gaussians_from_points
from diff3r_plugin.io.posed_images import Mask, PosedImages, scaled_intrinsics
from diff3r_plugin.io.re10k_chunk import read_re10k_chunk
from diff3r_plugin.io.scenes import read_gaussians, read_points, read_posed_images, read_splats
from diff3r_plugin.io.splats import SplatRendering, Splats
from diff3r_plugin.io.transforms_json import read_transforms_json

__all__ = [
    "ColmapLens",
    "FileError",
    "FileWarning",
    "FisheyeLens",
    "Lens",
    "Mask",
    "MissingPackageError",
    "PointCloud",
    "PosedImages",
    "SplatRendering",
    "Splats",
    "Undistortion",
    "atomic_write",
    "gaussians_from_points",
    "image_size",
    "read_colmap",
    "read_colmap_points",
    "read_gaussians",
    "read_image",
    "read_npz",
    "read_ply",
    "read_ply_points",
    "read_points",
    "read_posed_images",
    "read_re10k_chunk",
    "read_splats",
    "read_transforms_json",
    "scaled_intrinsics",
    "write_image",
    "write_npz",
    "write_ply",
]
