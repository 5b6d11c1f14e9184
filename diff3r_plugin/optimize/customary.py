"""The customary test-time optimization: Adam with 3D Gaussian splatting's rates, and nothing to hold the scene.

What users of feed-forward splatting do today, to compare with: no proximal term, no weights, no linearization. The
scene is a leaf in the parameters of 3D Gaussian splatting (Kerbl et al. 2023): centers, logarithms of scales,
quaternions, logits of opacities, spherical harmonics; every step renders all context views.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.config import BACKENDS
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.quaternions import scales_and_quats
from diff3r_plugin.metrics import ssim
from diff3r_plugin.ranges import require_choice, require_group_names, require_positive, require_whole
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

CUSTOMARY_RATES = MappingProxyType(
    {
        "means": 1.6e-4,
        "scales": 5e-3,
        "quats": 1e-3,
        "opacities": 5e-2,
        "sh_dc": 2.5e-3,
        "sh_rest": 1.25e-4,
    }
)
"""Adam's step per parameter as 3D Gaussian splatting published them; that of the means is in units of the cameras'
extent, and is not lowered: over a thousand steps the published decay would take off a seventh."""

EPSILON = 1e-15
SSIM_SHARE = 0.2
LOSSES = ("photometric", "mse")
LEAST_OPACITY = 1e-4
"""Logits of the opacities are taken at least so far from 0 and 1."""


@dataclass(frozen=True)
class CustomaryState:
    """The scene after some steps.

    Args:
        steps: Steps taken.
        gaussians: The scene, detached, in scales and quaternions.
        seconds: From the start, renderings and all.
        loss: Of each scene before the last step (before the first, where none was taken), ``[B]``.
    """

    steps: int
    gaussians: Gaussians
    seconds: float
    loss: Float[Tensor, " B"]


@dataclass(frozen=True)
class CustomaryTTO:
    """Adam with 3D Gaussian splatting's learning rates on the context views.

    Args:
        steps: Numbers of steps to report the scene after, ascending, each at least 0.
        loss: "photometric", 0.8 of the mean absolute error and 0.2 of 1 - SSIM, as published (images below 11 pixels
            have no SSIM and take the first part alone), or "mse".
        learning_rates: Of single parameters, positive; others take ``CUSTOMARY_RATES``.
        extent: Factor of the means' rate in world units, positive; None for 1.1 times the greatest distance of a
            camera from the cameras' mean, as published.
        backend: "auto", "gsplat", "native" or "torch".

    Raises:
        ValueError: with the value, what was expected, and the setting's name.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.optimize.customary import CustomaryTTO
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> views = Views(torch.eye(4)[None, None], K, torch.zeros(1, 1, 3, 16, 16))
        >>> start, end = CustomaryTTO(steps=(0, 5)).run(g, views)
        >>> bool((end.gaussians.opacities < start.gaussians.opacities).all())
        True
    """

    steps: Sequence[int] = (50, 200, 1000)
    loss: str = "photometric"
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    extent: float | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        for count in self.steps:
            require_whole("steps", count, 0)
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must be ascending numbers, at least one; got {tuple(self.steps)}.")
        require_choice("loss", self.loss, LOSSES)
        require_choice("backend", self.backend, BACKENDS)
        require_group_names("learning_rates", self.learning_rates, CUSTOMARY_RATES)
        for name, rate in self.learning_rates.items():
            require_positive(f"learning_rates.{name}", rate)
        if self.extent is not None:
            require_positive("extent", self.extent)

    def run(self, gaussians: Gaussians, views: Views) -> Iterator[CustomaryState]:
        """The scene after each of the numbers of steps; one run gives all of them.

        Args:
            gaussians: The scenes to start from; they stay as they are.
            views: Context views with images.

        Raises:
            ValueError: if the views have no images.
        """
        started = time.monotonic()
        images, cameras = views.given_images, views.replace(images=None)
        leaves = _leaves(gaussians)
        rates = {**CUSTOMARY_RATES, **self.learning_rates}
        rates["means"] *= cameras_extent(views) if self.extent is None else self.extent
        optimizer = torch.optim.Adam([{"params": [leaves[name]], "lr": rates[name]} for name in leaves], eps=EPSILON)
        values = torch.zeros(gaussians.batch_size, dtype=gaussians.dtype, device=gaussians.device)
        for step in range(self.steps[-1] + 1):
            if step in self.steps:
                yield CustomaryState(step, _scene(leaves).map(_kept), time.monotonic() - started, values)
            if step == self.steps[-1]:
                return
            with torch.enable_grad():
                losses = self._losses(images, render(_scene(leaves), cameras, self.backend))
                optimizer.zero_grad()
                losses.sum().backward()
            optimizer.step()
            values = losses.detach()

    def _losses(self, images: Float[Tensor, "B V 3 H W"], rendered: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, " B"]:
        if self.loss == "mse":
            return (images - rendered).square().flatten(1).mean(1)
        absolute = (images - rendered).abs().flatten(1).mean(1)
        if min(images.shape[-2:]) < 11:
            return absolute
        return (1 - SSIM_SHARE) * absolute + SSIM_SHARE * (1 - ssim(images, rendered).mean(1))


def cameras_extent(views: Views) -> float:
    """1.1 times the greatest distance of a camera from its scene's mean camera, world units; 1 for one camera."""
    to_world = torch.linalg.inv(views.world_to_camera.detach().double())
    centers = to_world[..., :3, 3]
    distance = float((centers - centers.mean(1, keepdim=True)).norm(dim=-1).max())
    return 1.1 * distance if distance > 0 else 1.0


def _kept(values: Tensor) -> Tensor:
    """A copy: the optimizer writes into its leaves."""
    return values.detach().clone()


def _one(gaussians: Gaussians, scene: int) -> Gaussians:
    """One scene of the batch, without a graph."""
    return gaussians.map(lambda t: t[scene : scene + 1].detach())


def _leaves(gaussians: Gaussians) -> dict[str, Tensor]:
    """The parameters that 3D Gaussian splatting optimizes, as leaves of a graph of their own."""
    split = [scales_and_quats(_one(gaussians, scene)) for scene in range(gaussians.batch_size)]
    scales, quats = (torch.stack(parts) for parts in zip(*split, strict=True))
    tiny = torch.finfo(gaussians.dtype).tiny ** 0.25
    values = {
        "means": gaussians.means,
        "scales": scales.clamp_min(tiny).log(),
        "quats": quats,
        "opacities": gaussians.opacities.clamp(LEAST_OPACITY, 1 - LEAST_OPACITY).logit(),
        "sh_dc": gaussians.harmonics[..., :1],
        "sh_rest": gaussians.harmonics[..., 1:],
    }
    return {name: value.detach().clone().requires_grad_() for name, value in values.items()}


def _scene(leaves: Mapping[str, Tensor]) -> Gaussians:
    """The scene of these parameters."""
    harmonics = torch.cat([leaves["sh_dc"], leaves["sh_rest"]], -1)
    return Gaussians.from_scales(
        leaves["means"], leaves["scales"].exp(), leaves["quats"], leaves["opacities"].sigmoid(), harmonics
    )
