"""The C structures that both interfaces share (``math/inputs.h``)."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

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
        ("dilation", c_double),
        ("antialiased", c_int64),
    )


class Vector(Structure):
    """``Diff3rVector``: a tangent or a cotangent of the scene."""

    _fields_ = tuple((name, c_void_p) for name in ("means", "covariances", "opacities", "harmonics", "world_to_camera"))


CHART_GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest")
"""The groups of unknowns that kernels know, in the order of the C structure."""


class Chart(Structure):
    """``Diff3rChart``: where the groups stand in θ, and what they are relative to (``math/charts.h``)."""

    _fields_ = (
        ("unknowns", c_int64),
        *((name, c_int64) for name in CHART_GROUPS),
        ("kind", c_int64),
        ("theta", c_void_p),
        ("anchors", c_void_p),
    )
