"""Modules and launches through the driver's functions, those of a stand-in that runs kernels on this CPU."""

import threading
from ctypes import CDLL, Structure, byref, c_void_p

import gsplat_on_cpu
import pytest
import torch

from diff3r_plugin.kernels.loading.driver import SIGNATURES, Driver, DriverError
from diff3r_plugin.kernels.loading.kernel_table import KERNELS, DeviceScene, Systems
from diff3r_plugin.kernels.loading.library_cuda import CudaKernels, Queue
from diff3r_plugin.kernels.loading.structures import Inputs


@pytest.fixture
def library() -> CDLL:
    found = gsplat_on_cpu.library()
    if found is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    return found


@pytest.fixture
def current(library):
    """The context that is current, by the device that it is of; 0 if there is none."""

    def ask() -> int:
        context = c_void_p()
        library.cuCtxGetCurrent(byref(context))
        return context.value or 0

    return ask


def products(kernels: CudaKernels, device: int) -> list[float]:
    a, b, sums = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3), torch.zeros(2, 2, dtype=torch.float64)
    kernels.launch("products", Queue(0, device), Systems(2, 3), a.data_ptr(), b.data_ptr(), None, sums.data_ptr())
    return sums[:, 0].tolist()


def test_kernels_run_on_every_device_and_leave_the_current_context_as_it_was(library, current):
    kernels = gsplat_on_cpu.kernels(torch.float32)
    before = current()
    for device in (0, 1, 0):
        assert products(kernels, device) == [3.0, 12.0]
        assert current() == before


def test_a_launch_from_another_thread_finds_its_context(library):
    """As autograd's threads do, in which nothing is current."""
    kernels, found = gsplat_on_cpu.kernels(torch.float32), []
    products(kernels, 1)
    thread = threading.Thread(target=lambda: found.append(products(kernels, 1)))
    thread.start()
    thread.join()
    assert found[0] == [3.0, 12.0]


def test_a_unit_is_loaded_once_for_each_device(library):
    asked = []

    def images(unit: str, bases: int) -> bytes:
        asked.append((unit, bases))
        return f"on-host {unit} 32 {bases}".encode()

    kernels = CudaKernels(Driver(library), images)
    for device in (0, 0, 1, 1):
        products(kernels, device)
    assert asked == [("pcg", 0), ("pcg", 0)]


def test_what_the_driver_refuses_is_an_error_with_its_reason(library, capfd):
    driver = Driver(library)
    with pytest.raises(DriverError, match=r"refused by the stand-in \(CUDA_ERROR_OF_THE_STAND_IN, 200\)"):
        driver.load(0, b"no module")
    function = driver.function(driver.load(0, b"on-host pcg 32 0"), "diff3r_pcg_curvature")

    class TooShort(Structure):
        _fields_ = (("systems", Systems), ("alpha", c_void_p))

    with pytest.raises(DriverError, match=r"invalid argument \(CUDA_ERROR_INVALID_VALUE, 1\)"):
        driver.launch(0, function, 1, 256, 0, TooShort())
    with pytest.raises(DriverError, match="invalid argument"):
        driver.launch(0, function, 1, 128, 0, TooShort())
    said = capfd.readouterr().err
    assert "takes 40 bytes of arguments" in said and "wants 256 threads" in said


def test_a_number_of_harmonics_without_kernels_is_refused_by_its_number(library):
    scene = DeviceScene(Inputs(batch=1, views=1, gaussians=1, bases=7, height=4, width=4))
    with pytest.raises(ValueError, match=r"7 spherical harmonics.*1, 4, 9, 16, 25"):
        gsplat_on_cpu.kernels(torch.float32).launch("project", Queue(0, 0), scene)


def test_every_function_that_is_called_stands_in_the_stand_in(library):
    assert all(hasattr(library, name) for name in SIGNATURES)
    assert set(SIGNATURES) >= {"cuModuleLoadData", "cuLaunchKernel"} and len(KERNELS) > 20
