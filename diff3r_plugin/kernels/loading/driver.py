"""NVIDIA's driver, by ctypes: load compiled modules and launch their kernels in PyTorch's contexts."""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, Structure, addressof, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p, sizeof
from typing import Any

_POINTER, _SIZE = 1, 2
"""CU_LAUNCH_PARAM_BUFFER_POINTER and CU_LAUNCH_PARAM_BUFFER_SIZE."""

SIGNATURES: dict[str, tuple[type, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (POINTER(c_void_p),),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
"""The functions that are called, and their parameters (cuda.h)."""


class DriverError(RuntimeError):
    """The driver refused something; the message holds its reason."""


class Driver:
    """The driver's functions, with errors as exceptions.

    Args:
        library: libcuda, or what stands in for it.

    Raises:
        DriverError: if it does not start.
        AttributeError: if it is too old to have a function.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions = {name: getattr(library, name) for name in SIGNATURES}
        for name, function in self._functions.items():
            function.argtypes, function.restype = SIGNATURES[name], c_int
        self._launch, self._current = self._functions["cuLaunchKernel"], self._functions["cuCtxGetCurrent"]
        self._contexts: dict[int, int] = {}
        self._call("cuInit", 0)

    def version(self) -> int:
        """The newest CUDA release that the driver knows, 12040 for 12.4."""
        number = c_int()
        self._call("cuDriverGetVersion", byref(number))
        return number.value

    def context(self, device: int) -> int:
        """The context of a device that PyTorch works in."""
        if device not in self._contexts:
            handle, context = c_int(), c_void_p()
            self._call("cuDeviceGet", byref(handle), device)
            self._call("cuDevicePrimaryCtxRetain", byref(context), handle)
            self._contexts[device] = context.value or 0
        return self._contexts[device]

    def load(self, device: int, image: bytes) -> int:
        """A module on a device.

        Raises:
            DriverError: for what was compiled for another device, or by a compiler newer than the driver.
        """
        module = c_void_p()
        with _Current(self, device):
            self._call("cuModuleLoadData", byref(module), image)
        return module.value or 0

    def function(self, module: int, entry: str) -> int:
        """A module's kernel."""
        function = c_void_p()
        self._call("cuModuleGetFunction", byref(function), module, entry.encode())
        return function.value or 0

    def launch(self, device: int, function: int, blocks: int, threads: int, stream: int, arguments: Structure) -> None:
        """Queue a kernel on a stream of a device.

        Args:
            device: Index of the device, which need not be the current one.
            function: The kernel.
            blocks, threads: Along x.
            stream: Its handle; 0 is the default stream.
            arguments: All arguments in a row, without gaps.

        Raises:
            DriverError: if it cannot start, or work that was queued before has failed.
        """
        size = c_size_t(sizeof(arguments))
        extra = (c_void_p * 5)(_POINTER, addressof(arguments), _SIZE, addressof(size), None)
        current = c_void_p()
        self._current(byref(current))
        if current.value == self.context(device):
            self.check(self._launch(function, blocks, 1, 1, threads, 1, 1, 0, stream, None, extra))
            return
        with _Current(self, device):
            self.check(self._launch(function, blocks, 1, 1, threads, 1, 1, 0, stream, None, extra))

    def check(self, code: int) -> None:
        """Raise what an error code means.

        Raises:
            DriverError: for any code but 0.
        """
        if code:
            name, reason = c_char_p(), c_char_p()
            self._functions["cuGetErrorName"](code, byref(name))
            self._functions["cuGetErrorString"](code, byref(reason))
            said = f"{(reason.value or b'unknown error').decode()} ({(name.value or b'?').decode()}, {code})"
            raise DriverError(f"the GPU's driver refuses a kernel of diff3r: {said}.")

    def _call(self, name: str, *arguments: Any) -> None:
        self.check(self._functions[name](*arguments))


class _Current:
    """Makes a device's context the current one of this thread, and the old one again afterwards."""

    def __init__(self, driver: Driver, device: int) -> None:
        self._driver, self._device = driver, device

    def __enter__(self) -> None:
        self._driver._call("cuCtxPushCurrent_v2", self._driver.context(self._device))

    def __exit__(self, *_exception: object) -> None:
        self._driver._call("cuCtxPopCurrent_v2", byref(c_void_p()))


@functools.cache
def load() -> Driver:
    """This machine's driver.

    Raises:
        OSError: if there is none.
    """
    return Driver(ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"))
