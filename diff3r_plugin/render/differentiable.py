"""An ordinary differentiable function out of a linearization: reverse and forward mode for PyTorch's autograd."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render.linearization import Linearization
from diff3r_plugin.views import Views


def render_differentiably(gaussians: Gaussians, views: Views, backend: ModuleType) -> Float[Tensor, "B V 3 H W"]:
    """Render with a backend module whose ``linearize`` supplies the derivatives (of first order)."""
    inputs = (*gaussians.tensors(), views.world_to_camera)
    return _Render.apply(*inputs, views, backend, _Kept())


class _Kept:
    """Carries the linearization from ``forward``, which may return tensors only, to ``setup_context``."""

    linearization: Linearization


class _Render(Function):
    @staticmethod
    def forward(
        means: Tensor,
        covariances: Tensor,
        opacities: Tensor,
        harmonics: Tensor,
        world_to_camera: Tensor,
        views: Views,
        backend: ModuleType,
        kept: _Kept,
    ) -> Tensor:
        scene = Gaussians(means, covariances, opacities, harmonics)
        kept.linearization = backend.linearize(scene, views.replace(world_to_camera=world_to_camera))
        return kept.linearization.image.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.linearization = inputs[-1].linearization
        ctx.inputs_like = [t.detach() for t in inputs[:5]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.needs_input_grad[4]:
            scene, world_to_camera = ctx.linearization.vjp_cameras(cotangent)
        else:
            scene, world_to_camera = ctx.linearization.vjp(cotangent), None
        return *scene.tensors(), world_to_camera, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        filled = [
            torch.zeros_like(like) if t is None else t for t, like in zip(tangents[:5], ctx.inputs_like, strict=True)
        ]
        return ctx.linearization.jvp(Gaussians(*filled[:4]), None if tangents[4] is None else filled[4])
