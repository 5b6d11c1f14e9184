"""The C structures that both interfaces share (``math/inputs.h``)."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

INPUTS = (
    "means",
    "covariances",
    "opacities",
    "harmonics",
    "world_to_camera",
    "intrinsics",
    "near_planes",
    "far_planes",
    "background",
)
"""What kernels read of scenes and cameras, in the order of the C structure."""


class Inputs(Structure):
    """``Diff3rInputs``: sizes and contiguous inputs."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "views", "gaussians", "bases", "height", "width")),
        *((name, c_void_p) for name in INPUTS),
    )


class Vector(Structure):
    """``Diff3rVector``: a tangent or a cotangent of the scene."""

    _fields_ = tuple((name, c_void_p) for name in ("means", "covariances", "opacities", "harmonics", "world_to_camera"))
