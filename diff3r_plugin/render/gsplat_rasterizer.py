"""What the GPU backend takes from gsplat, and what it finds out about the installed version."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.kernels.loading import cache, library_cuda
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.kernels.loading.remembered import remembered
from diff3r_plugin.render import one_rasterizer
from diff3r_plugin.render.semantics import ALPHA_CAP

TILE = 16  # px
OWN = "diff3r's kernels"
OLDEST = (1, 5)
"""The first gsplat whose boxes have two sides."""


class GsplatError(RuntimeError):
    """gsplat cannot be used here; the message says why and what to install."""


@dataclass(frozen=True)
class Rasterizer:
    """Everything that the GPU backend computes with.

    Args:
        isect_tiles, isect_offset_encode: gsplat's public functions of these names, of which the first takes
            ``conics`` and ``opacities``; None: our kernels list the tiles (``tile_lists``).
        rasterize_to_pixels: gsplat's public function of this name; None: our kernels rasterize, too.
        kernels: Our own kernels for the same device.
        alpha_cap: Largest alpha of one splat at one pixel in renderings by ``rasterize_to_pixels``.
        dtype: What all of them compute in.
        device: Type of device that the tensors are on.
        stream: Handle of the stream that our kernels are queued on, for a device.
        origin: Whose functions these are, for messages.
    """

    isect_tiles: Callable[..., tuple[Tensor | None, Tensor, Tensor]] | None
    isect_offset_encode: Callable[..., Tensor] | None
    rasterize_to_pixels: Callable[..., tuple[Tensor, Tensor]] | None
    kernels: CudaKernels
    alpha_cap: float
    dtype: torch.dtype = torch.float32
    device: str = "cuda"
    stream: Callable[[torch.device], int] = library_cuda.stream_of
    origin: str = OWN

    def require(self, dtype: torch.dtype) -> None:
        """Raises:
        ValueError: for float64 where all of it computes in float32.
        """
        if dtype == torch.float64 and self.dtype != torch.float64:
            raise ValueError(
                "The 'gsplat' backend computes in float32, got float64 Gaussians: pass .to(torch.float32), or choose "
                "backend='torch', which is exact and slow."
            )


@remembered
def load(device: torch.device) -> Rasterizer:
    """gsplat's functions and our kernels for a device; without gsplat our kernels alone, after one warning.

    The first call compiles what is not compiled yet. With ``DIFF3R_WITHOUT_GSPLAT`` set, gsplat is not looked for.
    Processes of one training render by the same functions (``one_rasterizer``).

    Args:
        device: A CUDA device with an index.

    Raises:
        BuildError: if our own kernels do not compile.
        RuntimeError: if the first process of a distributed run has a gsplat that this one lacks.
    """
    return one_rasterizer.agreed(_found(device, library_cuda.load(device)), without_gsplat)


def _found(device: torch.device, kernels: CudaKernels) -> Rasterizer:
    if os.environ.get("DIFF3R_WITHOUT_GSPLAT"):
        return without_gsplat(kernels)
    try:
        with cache.only_one("gsplat"):  # which deletes what other processes are building
            functions, cap = working_gsplat(device)
    except GsplatError as error:
        warnings.warn(
            f"The GPU backend of diff3r sorts and rasterizes by itself: {error}", RuntimeWarning, stacklevel=2
        )
        return without_gsplat(kernels)
    return Rasterizer(*functions, kernels, cap, origin=f"gsplat {_version()}")


def without_gsplat(kernels: CudaKernels, **where: Any) -> Rasterizer:
    """PyTorch sorts numbers, our kernels do everything else.

    Args:
        kernels: Of the device.
        where: ``dtype``, ``device`` and ``stream``, if these are not a GPU's.
    """
    return Rasterizer(None, None, None, kernels, ALPHA_CAP, **where)


def working_gsplat(device: torch.device) -> tuple[tuple[Callable, Callable, Callable], float]:
    """gsplat's three functions, tried on a device, and its alpha cap.

    Raises:
        GsplatError: if gsplat is missing, lacks a function, or does not build.
    """
    functions = gsplat_functions()
    try:
        return functions, _alpha_cap(functions, device)
    except Exception as error:  # without a toolkit its compiled part is None, which surfaces as an AttributeError
        raise GsplatError(
            f"gsplat does not run on {device} ({type(error).__name__}: {str(error).partition(chr(10))[0]}). "
            "It compiles itself at first use, which needs an nvcc of PyTorch's CUDA version and a C++ compiler; or "
            "install a wheel of gsplat that was built for this PyTorch."
        ) from error


def current(device: torch.device) -> contextlib.AbstractContextManager:
    """Makes a GPU the current device, which may be another; nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def gsplat_functions() -> tuple[Callable, Callable, Callable]:
    """``isect_tiles``, ``isect_offset_encode`` and ``rasterize_to_pixels`` of the installed gsplat.

    Raises:
        GsplatError: with what to install.
    """
    try:
        import gsplat
    except Exception as error:  # a failed compilation at import surfaces as almost anything
        raise GsplatError(
            f"gsplat cannot be imported ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
            "Install gsplat >= 1.5 with a CUDA build of PyTorch >= 2.1 (gsplat 1.6 wants PyTorch >= 2.7); it compiles "
            "itself at first use, which needs an nvcc of PyTorch's CUDA version and a C++ compiler."
        ) from error
    if _numbers(_version()) < OLDEST:
        raise GsplatError(f"gsplat {_version()} is too old; install gsplat 1.5.x or 1.6.x.")
    found: list[Callable] = []
    for name, parameters in _NEEDED.items():
        function = getattr(gsplat, name, None)
        known = () if function is None else inspect.signature(function).parameters
        missing = [parameter for parameter in parameters if not set(parameter.split("|")) & set(known)]
        if function is None or missing:
            what = f"{name}()" if function is None else f"{name}({', '.join(missing)})".replace("|", " or ")
            raise GsplatError(
                f"gsplat {_version()} has no {what}, which every release from 1.5.0 to 1.6 has: install one of them "
                "(pip install --force-reinstall gsplat==1.5.3), or set DIFF3R_WITHOUT_GSPLAT=1."
            )
        found.append(function)
    return _with_ellipses(found[0]), found[1], found[2]


def _version() -> str:
    """Of the installed gsplat."""
    module = sys.modules.get("gsplat")
    return str(getattr(module, "__version__", "of an unknown version"))


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers; of an unknown version such that it is tried."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else OLDEST


def _with_ellipses(isect_tiles: Callable) -> Callable:
    """An ``isect_tiles`` that may be given conics and opacities; before 1.6 gsplat goes by boxes alone."""
    if {"conics", "opacities"} <= set(inspect.signature(isect_tiles).parameters):
        return isect_tiles

    @functools.wraps(isect_tiles)
    def by_boxes(*arguments: Any, conics: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return isect_tiles(*arguments)

    return by_boxes


_NEEDED = {
    "isect_tiles": ("means2d", "radii", "depths", "tile_size", "tile_width", "tile_height"),
    "isect_offset_encode": ("isect_ids", "n_images|n_cameras", "tile_width", "tile_height"),
    "rasterize_to_pixels": (
        "means2d",
        "conics",
        "colors",
        "opacities",
        "image_width",
        "image_height",
        "tile_size",
        "isect_offsets",
        "flatten_ids",
        "backgrounds",
    ),
}
"""The parameters that they must have; before 1.5.3 images were called cameras (we pass these by position)."""


def _alpha_cap(functions: tuple[Callable, Callable, Callable], device: torch.device) -> float:
    """The cap as the rasterizer shows it: what an opaque splat leaves of the light (0.999 in 1.5.x, 0.99 since)."""
    sort, encode, rasterize_to_pixels = functions
    with current(device), torch.inference_mode(False), torch.no_grad():
        center = torch.full((1, 1, 2), TILE / 2 + 0.5, device=device)
        radii = torch.full((1, 1, 2), TILE, dtype=torch.int32, device=device)
        ones = torch.ones(1, 1, device=device)
        conics = torch.tensor([[[1.0, 0.0, 1.0]]], device=device)
        _, ids, flatten_ids = sort(center, radii, ones, TILE, 1, 1, conics=conics, opacities=ones)
        offsets = encode(ids, 1, 1, 1)
        arguments = (center, conics, torch.ones(1, 1, 3, device=device), ones, TILE, TILE, TILE, offsets, flatten_ids)
        _, alphas = rasterize_to_pixels(*arguments)
    return round(alphas[0, TILE // 2, TILE // 2, 0].item(), 6)


__all__ = [
    "TILE",
    "GsplatError",
    "Rasterizer",
    "current",
    "gsplat_functions",
    "load",
    "without_gsplat",
    "working_gsplat",
]
