"""Rendering of Gaussians and its linearization, by exchangeable backends.

``render`` is an ordinary differentiable function; ``linearize`` gives the image together with its Jacobian as an
operator. Backends: ``torch`` (the oracle), ``native`` (own C++ kernels, the default on a CPU) and ``gsplat`` (gsplat
and own CUDA kernels, the default on a GPU).
"""

from __future__ import annotations

import math
import sys
from importlib import import_module
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.config import RENDERERS
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.memory import available_bytes
from diff3r_plugin.render import gsplat_checks  # noqa: F401 (adds its checks to the self-test)
from diff3r_plugin.render.differentiable import render_differentiably
from diff3r_plugin.render.linearization import GaussianGram, Linearization
from diff3r_plugin.validation import require_scenes_and_cameras
from diff3r_plugin.views import Views

__all__ = ["GaussianGram", "Linearization", "available_backends", "linearize", "render", "resolve_backend"]

PAIR_BYTES = 86
"""What the reference keeps of each pixel and Gaussian."""

BACKENDS: dict[str, ModuleType] = {name: import_module(f"{__name__}.{name}_backend") for name in RENDERERS}
"""Each renderer's module by its name, the preferred one first. What a module must have is what `torch_backend` has."""


def available_backends(device: torch.device | str = "cpu", bases: int | None = None) -> tuple[str, ...]:
    """Names of the backends that work here for tensors on ``device``, the preferred one first.

    Args:
        device: Where they are.
        bases: How many spherical harmonics the scenes have, if known.
    """
    return tuple(name for name, module in BACKENDS.items() if module.is_available(device, bases))


def resolve_backend(backend: str, device: torch.device | str, bases: int | None = None) -> str:
    """The backend that ``backend`` ("auto" or a name) means on a device.

    Args:
        backend: "auto" or a name.
        device: Where tensors are.
        bases: How many spherical harmonics the scenes have, if known: a GPU's kernels for these pass a self-test first.

    Raises:
        ValueError: for an unknown name, or one that cannot work on this device or machine.
    """
    if backend == "auto":
        return next(name for name, module in BACKENDS.items() if module.is_available(device, bases))
    if backend not in BACKENDS:
        raise ValueError(f"Unknown render backend {backend!r}; known are 'auto', {', '.join(map(repr, BACKENDS))}.")
    if not BACKENDS[backend].is_available(device, bases):
        available = available_backends(device, bases)
        raise ValueError(
            f"The render backend {backend!r} is not available for tensors on {device} here (available: "
            f"{', '.join(available)}); it needs {BACKENDS[backend].NEEDS}. Use backend='auto'."
        )
    return backend


def linearize(gaussians: Gaussians, views: Views, backend: str = "auto") -> Linearization:
    """Render once and keep what applying the Jacobian many times needs.

    Args:
        gaussians: The scenes; float32 or float64 (float16 and bfloat16 are computed in float32).
        views: The cameras; their images are not used.
        backend: "auto", "gsplat", "native" or "torch".

    Returns:
        A :class:`Linearization`: ``image`` ``[B, V, 3, H, W]`` and the products ``jvp``, ``vjp``,
        ``gauss_newton_product`` and ``gram``.

    Raises:
        TypeError: if an argument is something else.
        ValueError: if the batch sizes or devices of scenes and cameras differ, or the backend is not available.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.render import linearize
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> lin = linearize(g, Views(torch.eye(4)[None, None], K, image_size=(16, 16)))
        >>> brighter = lin.jvp(g.map(torch.zeros_like).map(lambda t: t + (t.ndim == 4 and t.shape[-1] == 1)))
        >>> lin.image.shape, brighter.shape
        (torch.Size([1, 1, 3, 16, 16]), torch.Size([1, 1, 3, 16, 16]))
    """
    gaussians, views = _prepare(gaussians, views)
    name = _resolve(backend, gaussians, views)
    with torch.autocast(gaussians.device.type, enabled=False):
        return BACKENDS[name].linearize(gaussians, views)


def render(gaussians: Gaussians, views: Views, backend: str = "auto") -> Float[Tensor, "B V 3 H W"]:
    """Renderings of the scenes from the cameras; differentiable in reverse and in forward mode.

    Gradients and tangents reach every tensor of ``gaussians`` and ``views.world_to_camera``. The ``torch`` backend
    can be differentiated any number of times, the others once.

    Args:
        gaussians: The scenes; float32 or float64 (float16 and bfloat16 are computed in float32).
        views: The cameras; their images are not used.
        backend: "auto", "gsplat", "native" or "torch".

    Raises:
        TypeError: if an argument is something else.
        ValueError: if the batch sizes or devices of scenes and cameras differ, or the backend is not available.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.render import render
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> render(g, Views(torch.eye(4)[None, None], K, image_size=(16, 16))).shape
        torch.Size([1, 1, 3, 16, 16])
    """
    gaussians, views = _prepare(gaussians, views)
    name = _resolve(backend, gaussians, views)
    with torch.autocast(gaussians.device.type, enabled=False):
        if BACKENDS[name].FOLLOWED_BY_AUTOGRAD:
            return BACKENDS[name].render_image(gaussians, views)
        return render_differentiably(gaussians.with_covariances(), views, BACKENDS[name])


def _resolve(backend: str, gaussians: Gaussians, views: Views) -> str:
    """As :func:`resolve_backend`; the reference must not be fallen back to where it cannot work.

    Raises:
        MemoryError: if nothing else is left on a GPU, and its memory is not enough for that.
    """
    name = resolve_backend(backend, gaussians.device, gaussians.harmonics.shape[-1])
    if BACKENDS[name].FOLLOWED_BY_AUTOGRAD and backend == "auto" and gaussians.device.type == "cuda":
        pairs = math.prod(views.world_to_camera.shape[:2]) * math.prod(views.image_size) * gaussians.num_gaussians
        there = available_bytes(gaussians.device)
        if there is not None and PAIR_BYTES * pairs > there:
            raise MemoryError(
                f"Neither the GPU's kernels nor those of the CPU work here (the warnings say why), and the 'torch' "
                f"renderer would take {PAIR_BYTES * pairs / 2**30:.0f} GiB for {gaussians.num_gaussians} Gaussians in "
                f"{tuple(views.world_to_camera.shape[:2])} images of {views.image_size} pixels; there are "
                f"{there / 2**30:.0f}. Install a C++ compiler (g++ >= 9 or clang++ >= 10)."
            )
    return name


def _prepare(gaussians: Gaussians, views: Views) -> tuple[Gaussians, Views]:
    require_scenes_and_cameras(gaussians, views)
    dtype = torch.promote_types(gaussians.dtype, torch.float32)
    gaussians = gaussians.map(lambda t: t.to(dtype))
    if views.world_to_camera.dtype == dtype and views.intrinsics.dtype == dtype:
        return gaussians, views
    return gaussians, views.replace(
        **{
            name: getattr(views, name).to(dtype)
            for name in ("world_to_camera", "intrinsics", "near", "far", "background")
        }
    )


class _Callable(ModuleType):
    """This module, which may be called: once it is loaded, ``from diff3r_plugin import render`` finds it."""

    def __call__(self, gaussians: Gaussians, views: Views, backend: str = "auto") -> Float[Tensor, "B V 3 H W"]:
        return render(gaussians, views, backend)


sys.modules[__name__].__class__ = _Callable
