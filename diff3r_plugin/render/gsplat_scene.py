"""A scene on the GPU: projected by our kernel, sorted into tiles and rendered by gsplat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ctypes import Structure
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading.kernel_table import SPLATS, DeviceScene
from diff3r_plugin.kernels.loading.library_cuda import Queue
from diff3r_plugin.render.gsplat_rasterizer import TILE, Rasterizer, current
from diff3r_plugin.render.kernel_inputs import KernelInputs
from diff3r_plugin.render.tile_lists import tile_lists
from diff3r_plugin.views import Views


class GsplatScene(KernelInputs):
    """Inputs, splats in gsplat's layout and tile lists.

    One call goes through all scenes and views, so a batch costs one projection, one sort and one rendering.

    Args:
        gaussians: B scenes.
        views: V cameras for each.
        rasterizer: What to compute with.

    Raises:
        ValueError: for float64 on a GPU, or more than 2³¹ splats.
        torch.cuda.OutOfMemoryError: naming the sizes and what makes them smaller.
    """

    def __init__(self, gaussians: Gaussians, views: Views, rasterizer: Rasterizer) -> None:
        rasterizer.require(gaussians.dtype)
        super().__init__(gaussians, views, rasterizer.dtype, rasterizer.device)
        self.rasterizer, self.kernels = rasterizer, rasterizer.kernels
        self.images = self.batch * self.views
        if self.images * self.gaussians >= 2**31:
            raise ValueError(f"{self} are {self.images * self.gaussians} splats; gsplat counts up to {2**31 - 1}.")
        self.device = gaussians.device
        with self.enough_memory():
            self._allocate()
            self.run("project")
            self._sort()

    def _allocate(self) -> None:
        count, N = self.images, self.gaussians
        shapes: dict[str, tuple[int, ...]] = {
            "means2d": (count, N, 2),
            "conics": (count, N, 3),
            "colors": (count, N, 3),
            "splat_opacities": (count, N),
            "depths": (count, N),
            "reaches": (count, N, 2),
        }
        self.splats = {name: self.empty(shape) for name, shape in shapes.items()}
        self.splats["radii"] = torch.empty((count, N, 2), dtype=torch.int32, device=self.device)
        self.splats["flags"] = torch.empty((count, N), dtype=torch.int32, device=self.device)
        self.offsets: Tensor | None = None
        self.flatten_ids: Tensor | None = None

    def _sort(self) -> None:
        rows, columns = -(-self.height // TILE), -(-self.width // TILE)
        splats, rasterizer = self.splats, self.rasterizer
        if not (self.images and self.gaussians and rows and columns):
            self.flatten_ids = torch.empty(0, dtype=torch.int32, device=self.device)
            self.offsets = torch.zeros((self.images, rows, columns), dtype=torch.int32, device=self.device)
            return
        if rasterizer.isect_tiles is None or rasterizer.isect_offset_encode is None:
            lists = tile_lists(self._launch, self._structure(), splats["depths"], rows, columns)
            self.offsets, self.flatten_ids = lists
            return
        with current(self.device):
            _, ids, self.flatten_ids = rasterizer.isect_tiles(
                splats["means2d"],
                splats["radii"],
                splats["depths"],
                TILE,
                columns,
                rows,
                conics=splats["conics"],
                opacities=splats["splat_opacities"],
            )
            self.offsets = rasterizer.isect_offset_encode(ids, self.images, columns, rows).contiguous()

    def render(self, differentiable: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The image ``[B V, H, W, 3]`` and the splats it came from (gsplat puts a graph between, if asked)."""
        names = ("means2d", "conics", "colors", "splat_opacities")
        leaves = tuple(self.splats[name].detach().requires_grad_(differentiable) for name in names)
        background = self.tensors["background"].expand(self.images, 3).contiguous()
        assert self.flatten_ids is not None and self.offsets is not None
        with self.enough_memory(), torch.set_grad_enabled(differentiable):
            if self.rasterizer.rasterize_to_pixels is None:
                image = self.empty((self.images, self.height, self.width, 3))
                self.run("rasterize", image.data_ptr())
            elif self.flatten_ids.numel() == 0:
                image = background[:, None, None].expand(self.images, self.height, self.width, 3).contiguous()
            else:
                with current(self.device):
                    image, _ = self.rasterizer.rasterize_to_pixels(
                        *leaves,
                        self.width,
                        self.height,
                        TILE,
                        self.offsets,
                        self.flatten_ids,
                        backgrounds=background,
                    )
        return image, leaves

    def run(self, kernel: str, *arguments: Any) -> None:
        """Queue one of our kernels for this scene on PyTorch's current stream.

        Raises:
            DriverError: with the driver's reason, if it could not start.
        """
        self._launch(kernel, self._structure(), *arguments)

    def _launch(self, kernel: str, first: Structure, *arguments: Any) -> None:
        queue = Queue(self.rasterizer.stream(self.device), self.device.index or 0)
        self.kernels.launch(kernel, queue, first, *arguments)

    def _structure(self) -> DeviceScene:
        splats = [self.splats[name].data_ptr() for name in SPLATS]
        sorted_already = self.flatten_ids is not None and self.offsets is not None
        return DeviceScene(
            self.structure_of_inputs(),
            self.rasterizer.alpha_cap,
            *splats,
            self.offsets.data_ptr() if sorted_already else None,  # type: ignore[union-attr]
            self.flatten_ids.data_ptr() if sorted_already else None,  # type: ignore[union-attr]
            self.flatten_ids.numel() if sorted_already else 0,  # type: ignore[union-attr]
        )

    def image_argument(self, cotangent: Tensor) -> Tensor:
        """An image's cotangent ``[B, V, 3, H, W]``, checked, in gsplat's layout ``[B V, H, W, 3]``."""
        checked = self.image_like(cotangent, self.image_shape, "the image's cotangent")
        return checked.movedim(2, -1).flatten(0, 1).contiguous()

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """An uninitialized tensor for the kernels."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """Room for kernels that add."""
        return torch.zeros(shape, dtype=dtype or self.dtype, device=self.device)

    @contextlib.contextmanager
    def enough_memory(self) -> Iterator[None]:
        """Say what was too large when the device's memory ends."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise torch.cuda.OutOfMemoryError(
                f"The GPU's memory is not enough for {self} with {self.bases} spherical harmonics. Refine fewer scenes "
                "at once (the host's batch size), fewer or smaller context views, or fewer parameter groups "
                f"(diff3r.groups). PyTorch says: {str(error).splitlines()[0]}"
            ) from error
