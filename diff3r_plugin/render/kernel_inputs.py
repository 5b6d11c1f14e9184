"""Inputs of compiled kernels: contiguous tensors of one dtype on one device, and the checks all such backends share."""

from __future__ import annotations

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading.structures import INPUTS, Inputs
from diff3r_plugin.views import Views


class KernelInputs:
    """Scenes and cameras as kernels read them.

    Args:
        gaussians: B scenes; scales and quats become covariances.
        views: V cameras for each.
        dtype: Of all tensors that kernels read.
        device: "cpu" or "cuda": the type of device that the kernels work on.

    Attributes:
        tensors: By name: means, covariances, opacities, harmonics, world_to_camera, intrinsics, near_planes,
            far_planes, background.

    Raises:
        ValueError: if batch sizes differ, an image is too large, or a tensor is elsewhere.
    """

    def __init__(self, gaussians: Gaussians, views: Views, dtype: torch.dtype, device: str) -> None:
        if gaussians.batch_size != views.batch_size:
            raise ValueError(
                f"{gaussians.batch_size} scenes cannot be seen by the cameras of {views.batch_size}: "
                "the first dimensions of Gaussians and Views must agree."
            )
        if gaussians.covariances is None:
            with torch.autocast(device, enabled=False), torch.no_grad():
                gaussians = gaussians.with_covariances()
        self.dtype, self._device = dtype, device
        self.batch, self.gaussians = gaussians.batch_size, gaussians.num_gaussians
        self.bases, self.views = gaussians.harmonics.shape[-1], views.num_views
        self.height, self.width = views.image_size
        self.dilation, self.antialiased = views.dilation, views.antialiased
        if not (0 <= self.height < 2**19 and 0 <= self.width < 2**19):
            raise ValueError(f"image_size {views.image_size} must be two numbers from 0 to {2**19 - 1}.")
        given: dict[str, Tensor] = {
            "means": gaussians.means,
            "covariances": gaussians.covariance_matrices,
            "opacities": gaussians.opacities,
            "harmonics": gaussians.harmonics,
            "world_to_camera": views.world_to_camera,
            "intrinsics": views.intrinsics,
            "near_planes": views.near,
            "far_planes": views.far,
            "background": views.background,
        }
        self.tensors = {name: self.ready(value, name) for name, value in given.items()}
        # Inputs that were not copied must not change while the linearization lives; their version counters tell.
        self._versions = [
            (name, value, value._version)
            for name, value in given.items()
            if self.tensors[name].data_ptr() == value.data_ptr() and not value.is_inference()
        ]

    def __str__(self) -> str:
        return (
            f"{self.gaussians} Gaussians in {self.batch} x {self.views} images of {self.width} x {self.height} pixels"
        )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """[B, V, 3, H, W]."""
        return (self.batch, self.views, 3, self.height, self.width)

    def structure_of_inputs(self) -> Inputs:
        """The C structure that points at the tensors."""
        sizes = (self.batch, self.views, self.gaussians, self.bases, self.height, self.width)
        pointers = (self.tensors[name].data_ptr() for name in INPUTS)
        return Inputs(*sizes, *pointers, self.dilation, int(self.antialiased))

    def ready(self, value: Tensor, name: str) -> Tensor:
        """The same numbers, contiguous, in the right dtype, outside of any graph."""
        if value.device.type != self._device:
            raise ValueError(
                f"these kernels work on {self._device!r} tensors, but {name} is on {value.device}: move everything "
                f"with .{self._device}(), or choose another backend."
            )
        return value.detach().to(self.dtype).contiguous()

    def image_like(self, value: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """An argument of a product, checked."""
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}.")
        return self.ready(value, name)

    def pixel_weights(self, value: Tensor) -> Tensor:
        """Weights ``[B, V, H, W]``, checked."""
        return self.image_like(value, (self.batch, self.views, self.height, self.width), "pixel_weights")

    def tangent(self, tangent: Gaussians, world_to_camera: Tensor | None) -> list[Tensor]:
        """Means, covariances, opacities, harmonics (and cameras) of a direction, checked."""
        self.check_unchanged()
        if tangent.covariances is None:
            raise ValueError("a tangent needs covariances (scales and quats are not linear coordinates).")
        expected = (self.batch, self.gaussians, 3, self.bases)
        if tuple(tangent.harmonics.shape) != expected:
            raise ValueError(
                f"the tangent's harmonics must have the scene's shape {list(expected)}, "
                f"got {list(tangent.harmonics.shape)}."
            )
        given = [
            self.ready(tangent.means, "means"),
            self.ready(tangent.covariances, "covariances"),
            self.ready(tangent.opacities, "opacities"),
            self.ready(tangent.harmonics, "harmonics"),
        ]
        if world_to_camera is not None:
            given.append(self.image_like(world_to_camera, (self.batch, self.views, 4, 4), "world_to_camera"))
        return given

    def check_unchanged(self) -> None:
        """Raise if an input was written to since.

        Raises:
            RuntimeError: with the name of the input.
        """
        for name, value, version in self._versions:
            if value._version != version:
                raise RuntimeError(
                    f"{name} was changed in place after linearize() (version {version}, now {value._version}); "
                    "linearize again, or change a copy."
                )
