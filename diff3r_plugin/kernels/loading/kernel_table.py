"""What the GPU kernels are launched with: the one description that everything that launches them reads.

A kernel's entry point is ``diff3r_NAME`` in ``cuda/UNIT.cu``; its parameters follow each other as words of eight bytes.
Tests compare this table with what compilers made of the sources.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import Structure, c_double, c_int64, c_void_p
from dataclasses import dataclass

from diff3r_plugin.kernels.loading.structures import Chart, Inputs, Vector

SPLATS = ("means2d", "conics", "colors", "splat_opacities", "depths", "reaches", "radii", "flags")

TILE = 16
"""Side of a tile, px (``math/constants.h``)."""

BASES = (1, 4, 9, 16, 25)
"""The numbers of spherical harmonics that there are kernels for."""


class DeviceScene(Structure):
    """``Diff3rDeviceScene``: inputs, splats and tile lists, as pointers to contiguous tensors on a device."""

    _fields_ = (
        ("inputs", Inputs),
        ("alpha_cap", c_double),
        *((name, c_void_p) for name in SPLATS),
        ("tile_offsets", c_void_p),
        ("flatten_ids", c_void_p),
        ("intersections", c_int64),
    )


class Systems(Structure):
    """``Diff3rSystems``: B systems of P unknowns."""

    _fields_ = (("systems", c_int64), ("unknowns", c_int64))


@dataclass(frozen=True)
class Kernel:
    """One entry point.

    Args:
        name: Its name, without the prefix.
        unit: The source that it stands in, without the ending.
        threads: Of a block.
        blocks: How many blocks there are, from the first argument.
        parameters: Types of its arguments.
        of_bases: Whether it is compiled for a number of basis functions.
    """

    name: str
    unit: str
    threads: int
    blocks: Callable[[Structure], int]
    parameters: tuple[type, ...]
    of_bases: bool = False

    @property
    def entry(self) -> str:
        """Its name in a module."""
        return f"diff3r_{self.name}"


def _ceil(items: int, size: int) -> int:
    return -(-items // size)


def _inputs(first: Structure) -> Inputs:
    return first.inputs if isinstance(first, DeviceScene) else first  # type: ignore[return-value]


def _tiles(first: Structure) -> int:
    x = _inputs(first)
    return x.batch * x.views * _ceil(x.width, TILE) * _ceil(x.height, TILE)


def _splats(threads: int) -> Callable[[Structure], int]:
    """One thread for each Gaussian in each image."""

    def blocks(first: Structure) -> int:
        x = _inputs(first)
        return _ceil(x.batch * x.views * x.gaussians, threads)

    return blocks


def _gaussians(threads: int, numbers: Callable[[Inputs], int] = lambda x: 1) -> Callable[[Structure], int]:
    """One thread for each Gaussian, or for each of its numbers."""
    return lambda first: _ceil(_inputs(first).batch * _inputs(first).gaussians * numbers(_inputs(first)), threads)


def _gaussians_by_scene(threads: int) -> Callable[[Structure], int]:
    """One thread for each Gaussian; blocks do not straddle scenes."""
    return lambda first: _inputs(first).batch * _ceil(_inputs(first).gaussians, threads)


def _unknowns(first: Structure) -> int:
    """Four unknowns a thread; blocks do not straddle systems."""
    return first.systems * _ceil(first.unknowns, 4 * 256)  # type: ignore[attr-defined]


_P, _N, _X = c_void_p, c_int64, c_double


def _rasterizing(name: str, pointers: int, unit: str | None = None) -> Kernel:
    return Kernel(name, unit or name, TILE * TILE, _tiles, (DeviceScene, *[_P] * pointers))


def _vectors(name: str, *parameters: type) -> Kernel:
    return Kernel(name, "pcg", 256, _unknowns, (Systems, *parameters))


def _rows(name: str, *parameters: type, unit: str | None = None) -> Kernel:
    return Kernel(name, unit or name, 64, _gaussians_by_scene(64), (DeviceScene, *parameters), of_bases=True)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("project", "project", 128, _splats(128), (DeviceScene,), of_bases=True),
        Kernel("chart_decode", "chart_decode", 128, _gaussians(128), (Inputs, Chart, Vector)),
        Kernel(
            "chart_decode_harmonics",
            "chart_decode",
            128,
            _gaussians(128, lambda x: 3 * x.bases),
            (Inputs, Chart, _P),
        ),
        _rows("splat_jvp", Vector, _P, _P),
        _rows("chart_splat_jvp", Chart, *[_P] * 4),
        _rasterizing("rasterize", 1),
        _rasterizing("rasterize_vjp", 2, unit="rasterize"),
        _rasterizing("rasterize_jvp", 2),
        _rasterizing("rasterize_product", 3),
        _rows("splat_vjp", _P, _N, Vector, _P),
        _rows("chart_splat_vjp", _P, _N, Chart, *[_P] * 5),
        _rasterizing("rasterize_gram", 2),
        Kernel("splat_gram", "splat_gram", 32, _gaussians(32), (DeviceScene, _P, _P, _P), of_bases=True),
        Kernel("mean_moves", "chart_gram", 128, _splats(128), (DeviceScene, _P), of_bases=True),
        _rasterizing("rasterize_gram_diagonal", 3),
        _rows("chart_gram_diagonal", Chart, _P, _P, unit="chart_gram"),
        Kernel("count_tiles", "tile_lists", 128, _splats(128), (DeviceScene, _P, _P)),
        Kernel("list_tiles", "tile_lists", 128, _splats(128), (DeviceScene, *[_P] * 4)),
        Kernel("gather_tiles", "tile_lists", 256, _unknowns, (Systems, _N, *[_P] * 5)),
        _vectors("pcg_measure", _P, _P, _P, _P),
        _vectors("pcg_begin", _P, _X, *[_P] * 5),
        _vectors("pcg_curvature", *[_P] * 3),
        _vectors("pcg_advance", *[_P] * 6),
        _vectors("pcg_trial", *[_P] * 5),
        _vectors("pcg_drift", *[_P] * 4),
        _vectors("pcg_replace", *[_P] * 6),
        _vectors("pcg_follow", _P, _P, _X, _N, *[_P] * 5),
        _vectors("products", *[_P] * 4),
    )
}
"""All kernels by their names; what each computes stands in its source."""


def units(of_bases: bool) -> tuple[str, ...]:
    """The sources that are compiled for a number of basis functions, or those that are not.

    Example:
        >>> from diff3r_plugin.kernels.loading.kernel_table import units
        >>> "project" in units(of_bases=True), "pcg" in units(of_bases=False)
        (True, True)
    """
    return tuple(dict.fromkeys(k.unit for k in KERNELS.values() if k.of_bases == of_bases))
