"""What a run of the check is about."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import Linearization, linearize


@dataclass(frozen=True)
class Subject:
    """The backend under test: float32 on a device, driven through the public functions.

    Args:
        backend: Its name.
        device: Where.
    """

    backend: str
    device: torch.device

    def linearize(self, scene: Gaussians, views: Views) -> Linearization:
        """Of a float64 scene on the CPU, moved and rounded."""
        return linearize(self.put(scene), self.put(views), self.backend)

    def put(self, value):
        """A tensor, Gaussians or Views on the device in float32."""
        return value.to(self.device, torch.float32)


def tested_on(cpu: bool) -> Subject:
    """The backend that this run is about."""
    return Subject("native", torch.device("cpu")) if cpu else Subject("gsplat", torch.device("cuda", 0))
