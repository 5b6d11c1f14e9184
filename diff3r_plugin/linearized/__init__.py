"""Renderings as a function of the unknowns θ: the value at one θ, and the products of its Jacobian.

``composed`` chains a renderer with the derivative of the coordinates; it works with every backend, and shows what is
meant. ``fused`` does both within a backend's kernels (``charted``, and one module a backend). A test compares them.
``imaged`` adds a group that acts on what is rendered (each view's exposure) to either.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.linearized import charted_gsplat, charted_native, gsplat_checks  # noqa: F401 (adds its checks)
from diff3r_plugin.linearized.charted import Charted
from diff3r_plugin.linearized.composed import ComposedLinearization
from diff3r_plugin.linearized.fused import FusedLinearization
from diff3r_plugin.linearized.imaged import ImagedLinearization
from diff3r_plugin.linearized.protocol import ThetaLinearization
from diff3r_plugin.render import BACKENDS, resolve_backend
from diff3r_plugin.views import Views

__all__ = [
    "ComposedLinearization",
    "FusedLinearization",
    "ImagedLinearization",
    "ThetaLinearization",
    "linearize_theta",
]

CHARTED: dict[str, Charted] = {"native": charted_native.NativeCharted, "gsplat": charted_gsplat.linearize}
"""The backends that apply charts within their kernels."""


def linearize_theta(
    coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views, backend: str = "auto"
) -> ThetaLinearization:
    """Render the scene at θ and keep what the products in θ need.

    Args:
        coordinates: The map from θ to scenes.
        theta: Where.
        views: Cameras at θ = 0; they are moved first where poses are among the unknowns.
        backend: As for ``render``. Those of :data:`CHARTED` are fused, unless autograd has to follow.
    """
    last = next(reversed(coordinates.shapes), None)
    if last is not None and (chart := GROUPS[last].images) is not None:
        before = theta[:, : coordinates.first_unknown(last)].contiguous()
        rendering = linearize_theta(coordinates.without_last, before, views, backend)
        return ImagedLinearization(coordinates, last, chart, theta, rendering)
    name = resolve_backend(backend, theta.device, coordinates.reference.harmonics.shape[-1])
    followed = torch.is_grad_enabled() and theta.requires_grad
    runs_on = BACKENDS[name].RUNS_ON
    copied = runs_on is not None and theta.device.type not in runs_on
    if name in CHARTED and not copied and theta.dtype in (torch.float32, torch.float64) and not followed:
        return FusedLinearization(coordinates, theta, views, CHARTED[name])
    return ComposedLinearization(coordinates, theta, views, name)
