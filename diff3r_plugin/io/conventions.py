"""Cameras in the conventions that files use, brought by name to those of this package.

This package: OpenCV axes (x right, y down, z forward), world-to-camera matrices, intrinsics in pixels with the center
of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.ranges import require_choice

Axes = Literal["opencv", "opengl"]
"""Of a camera: x right, y down, z forward; or x right, y up, z backward (Blender, nerfstudio, instant-ngp)."""
Units = Literal["pixels", "normalized"]
"""Of intrinsics: pixels, or parts of the image's width and height (RealEstate10K)."""

RIGID_TOLERANCE = 1e-2
"""Of RᵀR − 1: what files with few digits keep, and scaled or sheared matrices do not."""


def world_to_camera(camera_to_world: Float[Tensor, "*batch 4 4"], axes: Axes) -> Float[Tensor, "*batch 4 4"]:
    """World-to-camera matrices in OpenCV axes, of camera-to-world matrices whose cameras have the given axes.

    Raises:
        ValueError: for other axes, or a matrix that is not a rotation with a translation.

    Example:
        >>> import torch
        >>> from diff3r_plugin.io.conventions import world_to_camera
        >>> world_to_camera(torch.eye(4), "opengl").diagonal()
        tensor([ 1., -1., -1.,  1.])
    """
    require_choice("axes", axes, get_args(Axes))
    require_rigid(camera_to_world)
    if axes == "opengl":
        camera_to_world = camera_to_world * camera_to_world.new_tensor([1.0, -1.0, -1.0, 1.0])
    rotation, center = camera_to_world[..., :3, :3].mT, camera_to_world[..., :3, 3:]
    inverse = torch.zeros_like(camera_to_world)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = -(rotation @ center)
    inverse[..., 3, 3] = 1
    return inverse + 0.0  # no negative zeros


def camera_to_world(world_to_camera: Float[Tensor, "*batch 4 4"], axes: Axes) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of :func:`world_to_camera`."""
    require_choice("axes", axes, get_args(Axes))
    require_rigid(world_to_camera)
    rotation, translation = world_to_camera[..., :3, :3].mT, world_to_camera[..., :3, 3:]
    inverse = torch.zeros_like(world_to_camera)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = -(rotation @ translation)
    inverse[..., 3, 3] = 1
    return (inverse * inverse.new_tensor([1.0, -1.0, -1.0, 1.0]) if axes == "opengl" else inverse) + 0.0


def pixel_intrinsics(
    fx: float, fy: float, cx: float, cy: float, units: Units, image_size: tuple[int, int]
) -> Float[Tensor, "3 3"]:
    """The matrix of intrinsics in pixels, float64.

    Args:
        fx: Focal length in x, in ``units``.
        fy: Focal length in y.
        cx: Principal point in x.
        cy: Principal point in y.
        units: "pixels" or "normalized".
        image_size: (H, W) in pixels.

    Raises:
        ValueError: for other units, focal lengths that are not positive, or numbers that cannot be in these units.

    Example:
        >>> from diff3r_plugin.io.conventions import pixel_intrinsics
        >>> pixel_intrinsics(1.0, 1.0, 0.5, 0.5, "normalized", (32, 64)).diagonal().tolist()
        [64.0, 32.0, 1.0]
    """
    require_choice("units", units, get_args(Units))
    # What is too large for float32 is infinite to everything that works on these cameras.
    numbers = torch.tensor([fx, fy, cx, cy], dtype=torch.float64)
    if not (numbers.float().isfinite().all() and fx > 0 and fy > 0):
        raise ValueError(f"intrinsics must be finite with positive focal lengths, got {numbers.tolist()}")
    if units == "pixels" and max(numbers.tolist()) <= 4 and min(image_size) > 8:
        raise ValueError(f"intrinsics {numbers.tolist()} are too small to be in pixels of an image of {image_size}")
    if units == "normalized" and max(fx, fy) > 100:
        raise ValueError(f"intrinsics {numbers.tolist()} are too large to be in units of the image's size")
    height, width = image_size if units == "normalized" else (1, 1)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 0], matrix[0, 2], matrix[1, 1], matrix[1, 2] = fx * width, cx * width, fy * height, cy * height
    return matrix


def require_rigid(matrices: Float[Tensor, "*batch 4 4"]) -> None:
    """Raise ValueError unless every matrix is a rotation with a translation."""
    flat = matrices.reshape(-1, 4, 4).double()
    rotation = flat[:, :3, :3]
    error = (rotation.mT @ rotation - torch.eye(3, dtype=torch.float64)).abs().amax((-2, -1))
    last = (flat[:, 3] - torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)).abs().amax(-1)
    good = flat.float().isfinite().all(-1).all(-1) & (error < RIGID_TOLERANCE) & (last < 1e-6)
    good &= torch.linalg.det(torch.where(good[:, None, None], rotation, 0)) > 0
    if not good.all():
        number = int((~good).nonzero()[0])
        raise ValueError(
            f"pose {number} is no rotation with a translation (|RᵀR − 1| = {float(error[number]):.3g}, last row "
            f"{flat[number, 3].tolist()})"
        )
