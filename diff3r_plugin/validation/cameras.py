"""Cameras in other conventions than this package's: OpenCV axes, world to camera, intrinsics in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.validation.finding import Finding, beyond, place
from diff3r_plugin.views import Views

RIGID = 1e-2
"""How far RᵀR may be from the identity: poses from files and half-precision networks are rounded."""
SHORT_FOCAL, SMALLEST_IMAGE = 10.0, 4
"""px: intrinsics with shorter focal lengths and the principal point within one pixel of the corner are normalized."""


def camera_findings(views: Views) -> list[Finding]:
    """Of the cameras of a call."""
    w2c, K = views.world_to_camera.detach(), views.intrinsics.detach()
    last = torch.eye(4, dtype=w2c.dtype, device=w2c.device)[3]  # not from the host, which would wait
    rotation = w2c[..., :3, :3]
    departure = _departure(rotation)
    mirrored = _determinants(rotation)
    focal = K.diagonal(dim1=-2, dim2=-1)[..., :2]
    return [
        Finding(beyond(w2c[..., 3, :] - last, -1e-3, 1e-3), lambda: _last_row(w2c, last)),
        Finding(beyond(departure, -RIGID, RIGID) | ~(mirrored.amin() > 0), lambda: _not_rigid(departure, mirrored)),
        Finding(
            beyond(K[..., 2, :] - last[1:], -1e-3, 1e-3) | beyond(K[..., 1, 0], -1e-3, 1e-3),
            lambda: _form_of_intrinsics(K, last[1:]),
        ),
        Finding(~(focal.amin() > 0), lambda: _focal_not_positive(focal)),
        Finding(_normalized(K, views.image_size).any(), lambda: _normalized_intrinsics(K, views.image_size)),
        Finding(~((views.near < views.far) & (views.near >= 0)).all(), lambda: _depth_limits(views)),
    ]


def _departure(rotation: Tensor) -> Tensor:
    """RᵀR − 1, by entries: no matrix product, which may be rounded to TF32."""
    product = (rotation[..., :, :, None] * rotation[..., :, None, :]).sum(-3)
    return product - torch.eye(3, dtype=rotation.dtype, device=rotation.device)


def _determinants(rotation: Tensor) -> Tensor:
    x, y, z = rotation.unbind(-2)
    return (torch.linalg.cross(x, y) * z).sum(-1)


def _last_row(w2c: Tensor, last: Tensor) -> str | None:
    rows = w2c[..., 3, :]
    bad = ((rows - last).abs() > 1e-3).any(-1) & _finite(w2c)
    if not bad.any():
        return None
    row = _numbers(rows[bad][0])
    transposed = ((w2c[..., :3, 3] == 0).all(-1) & (rows[..., 3] == 1))[bad][0]
    cure = (
        "The matrix seems to be transposed: give world_to_camera.mT."
        if transposed
        else "Give the 4x4 matrix [[R, t], [0, 1]] that takes world coordinates to camera coordinates."
    )
    return f"The last row of world_to_camera must be (0, 0, 0, 1), got ({row}) in {place(bad, 'scene', 'view')}. {cure}"


def _not_rigid(departure: Tensor, determinants: Tensor) -> str | None:
    bad = (departure.abs() > RIGID).any(-1).any(-1) & _finite(departure)
    if bad.any():
        worst = float(departure.abs().amax((-2, -1))[bad][0])
        return (
            f"world_to_camera must hold rotations: in {place(bad, 'scene', 'view')} RᵀR differs from the identity by "
            f"{worst:.3g} (at most {RIGID:g}). Divide the rotation by its scale, put a zero matrix right, and check "
            "that rows and columns were not mixed up in reading the pose."
        )
    bad = (determinants < 0) & determinants.isfinite()
    if not bad.any():
        return None
    return (
        f"world_to_camera must hold rotations, but that of {place(bad, 'scene', 'view')} mirrors (determinant "
        f"{float(determinants[bad][0]):.3g}). Changing axes takes two sign changes: OpenGL to OpenCV negates y and z, "
        "the second and third row."
    )


def _form_of_intrinsics(K: Tensor, last: Tensor) -> str | None:
    bad = ((K[..., 2, :] - last).abs() > 1e-3).any(-1) | (K[..., 1, 0].abs() > 1e-3)
    bad = bad & _finite(K)
    if not bad.any():
        return None
    rows = "; ".join(_numbers(row) for row in K[bad][0])
    return (
        f"intrinsics must have the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got [{rows}] in "
        f"{place(bad, 'scene', 'view')}. Is the matrix transposed (intrinsics.mT), or inverted?"
    )


def _focal_not_positive(focal: Tensor) -> str | None:
    bad = (focal <= 0).any(-1) & focal.isfinite().all(-1)
    if not bad.any():
        return None
    return (
        f"Focal lengths must be positive, got {_numbers(focal[bad][0])} in {place(bad, 'scene', 'view')}. With OpenCV "
        "axes (x right, y down, z forward) no focal length has a sign; negate the camera's axes instead."
    )


def _normalized(K: Tensor, size: tuple[int, int]) -> Tensor:
    """Views ``[B, V]`` whose intrinsics are in units of the image, not of pixels."""
    if min(size) < SMALLEST_IMAGE:
        return torch.zeros(K.shape[:2], dtype=torch.bool, device=K.device)
    focal, center = K.diagonal(dim1=-2, dim2=-1)[..., :2], K[..., :2, 2]
    return ((focal < SHORT_FOCAL) & (center.abs() <= 1)).all(-1)


def _normalized_intrinsics(K: Tensor, size: tuple[int, int]) -> str | None:
    bad = _normalized(K, size)
    if not bad.any():
        return None
    fx, fy, cx, cy = (float(K[bad][0][i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    height, width = size
    cure = (
        "These are inverted: give torch.linalg.inv of them."
        if min(cx, cy) < 0
        else f"These are normalized: multiply the first row by {width} and the second by {height}."
    )
    return (
        f"intrinsics must be in pixels, got focal lengths {fx:.3g}, {fy:.3g} and principal point ({cx:.3g}, {cy:.3g}) "
        f"for images of {width} x {height} pixels in {place(bad, 'scene', 'view')}. {cure}"
    )


def _depth_limits(views: Views) -> str | None:
    bad = ~((views.near < views.far) & (views.near >= 0))
    if not bad.any():
        return None
    near, far = float(views.near[bad][0]), float(views.far[bad][0])
    return (
        f"Depth limits must satisfy 0 <= near < far, got near={near:g}, far={far:g} in "
        f"{place(bad, 'scene', 'view')}. Both are distances in world units; were they swapped, or given as disparities?"
    )


def _finite(matrices: Tensor) -> Tensor:
    return matrices.isfinite().all(-1).all(-1)


def _numbers(row: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in row.tolist())
