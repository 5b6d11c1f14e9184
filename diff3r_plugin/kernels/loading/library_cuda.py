"""The GPU kernels as Python objects: compiled when they are first needed, launched through the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import Structure
from typing import Any, NamedTuple

import torch

from diff3r_plugin.kernels.loading import driver, modules_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.driver import Driver
from diff3r_plugin.kernels.loading.kernel_table import BASES, KERNELS, DeviceScene, Kernel
from diff3r_plugin.kernels.loading.remembered import remembered

COTANGENTS, MOMENTS = 0, 1
"""What arrives of each splat at ``splat_vjp`` (``cuda/splat_vjp.cuh``)."""

Images = Callable[[str, int], bytes]
"""The compiled module of a unit for a number of basis functions (0: for all)."""


class Queue(NamedTuple):
    """Where work is queued: the handle of a stream, and the index of its device."""

    stream: int
    device: int


def _arguments(kernel: Kernel) -> type[Structure]:
    fields = [(f"argument{i}", kind) for i, kind in enumerate(kernel.parameters)]
    return type(kernel.entry, (Structure,), {"_fields_": fields})


_ARGUMENTS = {name: _arguments(kernel) for name, kernel in KERNELS.items()}


class CudaKernels:
    """The kernels of one kind of device.

    Args:
        through: The driver.
        images: Gives modules, compiling them where need be.
        build: What results may depend on: the device's capability, driver, sources and compilers.
    """

    def __init__(self, through: Driver, images: Images, build: str = "") -> None:
        self._driver, self._images, self.build = through, images, build
        self._functions: dict[tuple[str, int, int], int] = {}
        self._modules: dict[tuple[str, int, int], int] = {}
        self._loading = threading.Lock()

    def launch(self, name: str, queue: Queue, first: Structure, *arguments: Any) -> None:
        """Queue a kernel and return at once.

        Args:
            name: One of ``KERNELS``.
            queue: Where.
            first: Its first argument, which holds the sizes.
            arguments: The others: structures, numbers, and addresses of contiguous tensors or None.

        Raises:
            ValueError: if there are no kernels for this number of spherical harmonics.
            BuildError: if it cannot be compiled.
            DriverError: if it cannot start.
        """
        kernel = KERNELS[name]
        blocks = kernel.blocks(first)
        if blocks == 0:
            return
        bases = _bases(first) if kernel.of_bases else 0
        function = self._functions.get((name, bases, queue.device)) or self._function(kernel, bases, queue.device)
        packed = _ARGUMENTS[name](first, *arguments)
        self._driver.launch(queue.device, function, blocks, kernel.threads, queue.stream, packed)

    def _function(self, kernel: Kernel, bases: int, device: int) -> int:
        with self._loading:
            place = kernel.unit, bases, device
            if place not in self._modules:
                self._modules[place] = self._driver.load(device, self._images(kernel.unit, bases))
            function = self._driver.function(self._modules[place], kernel.entry)
            self._functions[kernel.name, bases, device] = function
        return function


def _bases(first: Structure) -> int:
    bases = first.inputs.bases if isinstance(first, DeviceScene) else first.bases  # type: ignore[attr-defined]
    if bases not in BASES:
        raise ValueError(f"{bases} spherical harmonics a channel; there are kernels for {', '.join(map(str, BASES))}.")
    return bases


@remembered
def load(device: torch.device) -> CudaKernels:
    """The kernels for a device; those for vectors are compiled first if need be, the others at their first use.

    Args:
        device: A CUDA device with an index.

    Raises:
        BuildError: if they cannot be compiled.
        OSError: if there is no driver.
        DriverError: if it does not take them.
    """
    if torch.version.hip:
        raise BuildError(
            f"this PyTorch is built for AMD's GPUs (ROCm {torch.version.hip}), and the GPU kernels are for NVIDIA's; "
            "backend='native' refines with the CPU's."
        )
    through = driver.load()
    capability = torch.cuda.get_device_capability(device)
    modules = modules_cuda.images_for(capability, lambda image: through.load(device.index, image))
    kernels = CudaKernels(through, modules, repr((capability, through.version(), modules.build())))
    kernels._function(KERNELS["products"], 0, device.index)
    return kernels


def stream_of(device: torch.device) -> int:
    """The handle of PyTorch's current stream on a device."""
    return torch.cuda.current_stream(device).cuda_stream
