"""The GPU backend on a CPU: its very kernels, run by fibers, with slow twins of gsplat's three functions."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading import cache, toolchain
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.kernels.loading.driver import Driver
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels
from diff3r_plugin.kernels.loading.modules_cuda import sources, sources_and_headers
from diff3r_plugin.linearized.charted_gsplat import GsplatCharted
from diff3r_plugin.render import gsplat_backend, semantics
from diff3r_plugin.render.gsplat_backend import GsplatLinearization
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer, without_gsplat
from diff3r_plugin.views import Views

SHIM = Path(__file__).parent / "kernels" / "cuda_on_host.h"
DRIVER = SHIM.with_name("driver_on_host.cpp")


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """All GPU kernels compiled for this CPU; None without g++ (whose fibers and builtins they need)."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    flags = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-DDIFF3R_CUDA_ON_HOST",
        "-I",
        str(SHIM.parent),
        "-I",
        str(SOURCE_DIRECTORY),
        "-x",
        "c++",
    ]
    digest = hashlib.sha256(SHIM.read_bytes() + DRIVER.read_bytes() + repr(flags).encode())
    for source in sources_and_headers():
        digest.update(source.read_bytes())

    def make(target: Path) -> None:
        error = toolchain.compile_library([compiler], flags, [], [*sources(), DRIVER], target)
        assert error is None, error

    return ctypes.CDLL(str(cache.provide(f"diff3r_cuda_on_host_{digest.hexdigest()[:16]}.so", make)))


def kernels(dtype: torch.dtype) -> CudaKernels:
    """The kernels in one dtype, launched as on a device: through a driver that runs them on this CPU."""
    loaded = library()
    assert loaded is not None
    bits = 8 * dtype.itemsize
    return CudaKernels(Driver(loaded), lambda unit, bases: f"on-host {unit} {bits} {bases}".encode())


def warp_visits() -> int:
    """Pairs of a warp and a splat that kernels have looked at since the last call."""
    loaded = library()
    assert loaded is not None
    loaded.cuda_on_host_warp_visits.restype = ctypes.c_int64
    return loaded.cuda_on_host_warp_visits()


def launches() -> int:
    """Kernels launched in this process so far."""
    loaded = library()
    assert loaded is not None
    loaded.cuda_on_host_launches.restype = ctypes.c_int64
    return loaded.cuda_on_host_launches()


def rasterizer(dtype: torch.dtype, alpha_cap: float = semantics.ALPHA_CAP) -> Rasterizer:
    """The kernels and the twins, in one dtype."""
    rasterize = functools.partial(_rasterize_to_pixels, alpha_cap)
    return Rasterizer(
        _isect_tiles, _isect_offset_encode, rasterize, kernels(dtype), alpha_cap, dtype, "cpu", lambda device: 0
    )


def own_rasterizer(dtype: torch.dtype) -> Rasterizer:
    """The kernels alone, which rasterize too; PyTorch sorts."""
    return without_gsplat(kernels(dtype), dtype=dtype, device="cpu", stream=lambda device: 0)


def backend(make: Callable[[torch.dtype], Rasterizer]) -> SimpleNamespace:
    """What renderer and linearization in θ know of a backend, to be put among theirs under a name of its own."""

    def linearize(gaussians: Gaussians, views: Views) -> GsplatLinearization:
        dtype = torch.float64 if gaussians.dtype == torch.float64 else torch.float32
        return GsplatLinearization(gaussians, views, make(dtype))

    def charted(coordinates: Coordinates, theta: Tensor, views: Views) -> GsplatCharted:
        return GsplatCharted(coordinates, theta, views, make(theta.dtype))

    def is_available(device: torch.device | str = "cpu", bases: int | None = None) -> bool:
        return torch.device(device).type == "cpu" and library() is not None

    return SimpleNamespace(
        linearize=linearize,
        charted=charted,
        is_available=is_available,
        NEEDS=gsplat_backend.NEEDS,
        FOLLOWED_BY_AUTOGRAD=False,
        RUNS_ON=None,
    )


BACKENDS = {"gsplat_on_cpu": backend(rasterizer), "kernels_on_cpu": backend(own_rasterizer)}
"""With twins of gsplat's functions, which are slow; and as it is where gsplat cannot be used."""


def _isect_tiles(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    tile_size: int,
    tile_width: int,
    tile_height: int,
    conics: Tensor | None = None,
    opacities: Tensor | None = None,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """As gsplat's before 1.6: boxes of tiles, sorted by image, tile and depth; ids count over images and splats."""
    images, count = depths.shape
    low = ((means2d - radii) / tile_size).floor().long()
    high = ((means2d + radii) / tile_size).ceil().long()
    limit = torch.tensor([tile_width, tile_height])
    low, high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
    entries = []
    for image in range(images):
        for n in range(count):
            if (radii[image, n] <= 0).any():
                continue
            (x0, y0), (x1, y1) = low[image, n].tolist(), high[image, n].tolist()
            for y in range(y0, y1):
                for x in range(x0, x1):
                    tile = (image * tile_height + y) * tile_width + x
                    entries.append((tile, depths[image, n].item(), image * count + n))
    entries.sort()
    tiles = torch.tensor([e[0] for e in entries], dtype=torch.int64)
    return None, tiles, torch.tensor([e[2] for e in entries], dtype=torch.int32)


def _isect_offset_encode(ids: Tensor, n_images: int, tile_width: int, tile_height: int) -> Tensor:
    counts = torch.bincount(ids, minlength=n_images * tile_width * tile_height)
    return (counts.cumsum(0) - counts).int().reshape(n_images, tile_height, tile_width)


def _rasterize_to_pixels(
    alpha_cap: float,
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    image_width: int,
    image_height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Tile by tile, splat by splat, differentiable by autograd."""
    images, rows, columns = isect_offsets.shape
    starts = [*isect_offsets.flatten().tolist(), flatten_ids.numel()]
    splats = [t.flatten(0, 1) for t in (means2d, conics, colors, opacities)]
    renderings = []
    alphas = []
    for image in range(images):
        lines = []
        lines_alpha = []
        for row in range(rows):
            tiles = []
            tiles_alpha = []
            for column in range(columns):
                index = (image * rows + row) * columns + column
                x = column * tile_size + torch.arange(tile_size, dtype=means2d.dtype) + 0.5
                y = row * tile_size + torch.arange(tile_size, dtype=means2d.dtype) + 0.5
                color, left = _tile(x, y, splats, flatten_ids[starts[index] : starts[index + 1]].tolist(), alpha_cap)
                background = 0 if backgrounds is None else backgrounds[image]
                tiles.append(color + left[..., None] * background)
                tiles_alpha.append(1 - left)
            lines.append(torch.cat(tiles, 1))
            lines_alpha.append(torch.cat(tiles_alpha, 1))
        renderings.append(torch.cat(lines, 0)[:image_height, :image_width])
        alphas.append(torch.cat(lines_alpha, 0)[:image_height, :image_width, None])
    return torch.stack(renderings), torch.stack(alphas)


def _tile(x: Tensor, y: Tensor, splats: list[Tensor], ids: list[int], alpha_cap: float) -> tuple[Tensor, Tensor]:
    means2d, conics, colors, opacities = splats
    left = x.new_ones(len(y), len(x))
    going = torch.ones_like(left, dtype=torch.bool)
    color = x.new_zeros(len(y), len(x), 3)
    for i in ids:
        dx, dy = x - means2d[i, 0], (y - means2d[i, 1])[:, None]
        sigma = 0.5 * (conics[i, 0] * dx**2 + conics[i, 2] * dy**2) + conics[i, 1] * dx * dy
        alpha = (opacities[i] * torch.exp(-sigma)).clamp(max=alpha_cap)
        visible = (sigma >= 0) & (alpha >= semantics.ALPHA_SKIP) & going
        after = left * (1 - alpha)
        # gsplat's own rule in its own precision; in float64, which it does not have, the rule of the other backends.
        ends = after <= 1e-4 if x.dtype == torch.float32 else after < semantics.TRANSMITTANCE_STOP
        stops = visible & ends
        taken = visible & ~stops
        going = going & ~stops
        color = color + torch.where(taken, left * alpha, 0)[..., None] * colors[i]
        left = torch.where(taken, after, left)
    return color, left
