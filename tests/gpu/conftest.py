"""What the tests of a device run on: the GPU; without one the kernels' PTX on this CPU (``ptx_on_cpu``), or what
``DIFF3R_EMULATE_GPU`` names (``on_device``)."""

from dataclasses import dataclass

import on_device
import pytest
import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import Linearization, linearize
from diff3r_plugin.views import Views


@dataclass(frozen=True)
class Gpu:
    """A device, and the backend's name there."""

    device: torch.device
    backend: str

    def put(self, value):
        """A tensor, Gaussians or Views there, in float32."""
        return value.to(self.device, torch.float32)

    def linearize(self, scene: Gaussians, views: Views) -> Linearization:
        """Of a scene in float64 on the CPU, by the public function."""
        return linearize(self.put(scene), self.put(views), self.backend)


@pytest.fixture
def gpu_or_emulation(request) -> Gpu:
    if torch.cuda.is_available():
        return Gpu(torch.device("cuda", 0), "gsplat")
    fibers = on_device.emulation() not in ("", "ptx")
    return Gpu(
        torch.device("cpu"), request.getfixturevalue("kernels_on_cpu_backend" if fibers else "ptx_on_cpu_backend")
    )


@pytest.fixture
def gpu(gpu_or_emulation) -> Gpu:
    """For what an emulation does not have: streams, a memory of its own, neighbors."""
    if gpu_or_emulation.device.type != "cuda":
        pytest.skip("no GPU here")
    return gpu_or_emulation
