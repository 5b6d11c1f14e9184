"""Inputs of the CPU kernels: checked, contiguous, and described by the C structure that the kernels read."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels import library
from diff3r_plugin.views import Views

_BYTES_PER_INTERSECTION = 44
"""Two list entries of four bytes, and nine floats of gradient while a product is computed."""

_LESS = "Render fewer scenes or views at once, or smaller pictures"


class NativeScene:
    """Contiguous inputs of one dtype, and the C structure that points at them."""

    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        loaded = library.load()
        if loaded is None:
            raise RuntimeError(f"the 'native' backend is not available: {library.failure()}")
        if gaussians.batch_size != views.batch_size:
            raise ValueError(
                f"{gaussians.batch_size} scenes cannot be seen by the cameras of {views.batch_size}: "
                "the first dimensions of Gaussians and Views must agree."
            )
        if gaussians.covariances is None:
            with torch.autocast("cpu", enabled=False), torch.no_grad():
                gaussians = gaussians.with_covariances()
        self.empty = loaded.empty
        self.dtype = gaussians.dtype if gaussians.dtype == torch.float64 else torch.float32
        self.kernels = loaded.by_dtype[self.dtype]
        self.batch, self.gaussians = gaussians.batch_size, gaussians.num_gaussians
        self.bases, self.views = gaussians.harmonics.shape[-1], views.num_views
        self.height, self.width = views.image_size  # type: ignore[misc]
        if not (0 <= self.height < 2**19 and 0 <= self.width < 2**19):
            raise ValueError(f"image_size {views.image_size} must be two numbers from 0 to {2**19 - 1}.")
        if self.gaussians >= 2**31:
            raise ValueError(f"{self.gaussians} Gaussians in one scene; the kernels count up to {2**31 - 1}.")
        given: dict[str, Tensor] = {
            "means": gaussians.means,
            "covariances": gaussians.covariances,  # type: ignore[dict-item]
            "opacities": gaussians.opacities,
            "harmonics": gaussians.harmonics,
            "world_to_camera": views.world_to_camera,
            "intrinsics": views.intrinsics,
            "near_planes": views.near,  # type: ignore[dict-item]
            "far_planes": views.far,  # type: ignore[dict-item]
            "background": views.background,  # type: ignore[dict-item]
        }
        self.tensors = {name: ready(value, self.dtype, name) for name, value in given.items()}
        # Inputs that were not copied must not change while the linearisation lives; their version counters tell.
        self.versions = [
            (name, value, value._version)
            for name, value in given.items()
            if self.tensors[name].data_ptr() == value.data_ptr() and not value.is_inference()
        ]
        self.structure = library.Scene(
            self.batch,
            self.views,
            self.gaussians,
            self.bases,
            self.height,
            self.width,
            memory_limit() // _BYTES_PER_INTERSECTION,
            *(self.tensors[name].data_ptr() for name in given),
        )

    def draw(self, keep: bool) -> tuple[Tensor, library.Counts, ctypes.c_void_p]:
        image = torch.empty(self.image_shape, dtype=self.dtype)
        counts, handle = library.Counts(), ctypes.c_void_p()
        status = self.kernels.linearize(
            self.structure, torch.get_num_threads(), image.data_ptr(), counts, handle if keep else None
        )
        if status == library.TOO_MANY_INTERSECTIONS:
            needed = counts.intersections * _BYTES_PER_INTERSECTION / 2**30
            raise MemoryError(
                f"{self} cover {counts.intersections} tiles of 16 x 16 pixels in all, which takes {needed:.1f} GiB; at "
                f"most {self.structure.max_intersections} tiles fit into memory. {_LESS}, or remove Gaussians that "
                "cover whole pictures."
            )
        self.check(status)
        return image, counts, handle

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (self.batch, self.views, 3, self.height, self.width)

    def check(self, status: int) -> None:
        if status != library.OK:
            raise MemoryError(f"not enough memory for {self}. {_LESS}.")

    def __str__(self) -> str:
        return (
            f"{self.gaussians} Gaussians in {self.batch} x {self.views} pictures of {self.width} x {self.height} pixels"
        )

    def check_unchanged(self) -> None:
        for name, value, version in self.versions:
            if value._version != version:
                raise RuntimeError(
                    f"{name} was changed in place after linearize() (version {version}, now {value._version}); "
                    "linearise again, or change a copy."
                )


def ready(value: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The same numbers, contiguous, in the right dtype, outside of any graph."""
    if value.device.type != "cpu":
        raise ValueError(
            f"the 'native' backend works on the CPU, but {name} is on {value.device}: move everything with .cpu(), "
            "or choose another backend."
        )
    return value.detach().to(dtype).contiguous()


@functools.lru_cache(maxsize=1)
def memory_limit() -> int:
    """Bytes that tile lists and gradients may take: half of the machine's (or the container's) memory."""
    limits = [2**34]
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(ValueError, OSError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits) // 2
