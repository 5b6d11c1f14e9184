"""One refined encoder call, and the proximal weights that steered it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.plugin import registry
from diff3r_plugin.plugin.adapter import HostAdapter
from diff3r_plugin.plugin.pose_estimation import PoseEstimate, pose_errors
from diff3r_plugin.plugin.settings import PluginSettings
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.uncertainty import DEFAULT_WEIGHTS, UncertaintyHead
from diff3r_plugin.views import Views

HEAD_SEED = 20260401


@dataclass(frozen=True, eq=False)
class Refinement:
    """What went into and came out of one refined encoder call.

    Args:
        before: The encoder's output as the network gave it.
        after: The same kind of output with the refined scene.
        gaussians: The initial scene, without graph.
        refined: The refined scene, without graph.
        views: The context views.
        weights: The proximal weights.
        info: What the solver reports.
        seconds: Wall-clock time of conversion, poses, head and solver together.
        poses: What became of the poses where they were estimated; None where those of the data were used.
        given_cameras: ``world_to_camera`` of the context views in the data, NaN where it has none.
    """

    before: Any
    after: Any
    gaussians: Gaussians
    refined: Gaussians
    views: Views
    weights: ProximalWeights
    info: TTOInfo
    seconds: float
    poses: PoseEstimate | None
    given_cameras: Float[Tensor, "B V 4 4"]

    @property
    def refined_views(self) -> Views:
        """The context views with the cameras that belong to the refined scene."""
        cameras = self.info.world_to_camera
        return self.views if cameras is None else self.views.replace(world_to_camera=cameras.to(self.views.dtype))

    @property
    def without_poses(self) -> Bool[Tensor, "B"]:
        """Scenes whose context views stand nowhere, because their poses could not be estimated."""
        if self.poses is None:
            return torch.zeros(self.views.batch_size, dtype=torch.bool, device=self.views.device)
        return self.poses.failed

    def pose_figures(self) -> dict[str, Float[Tensor, "B"]]:
        """Of estimated poses: share of agreeing pixels (least of the views), and degrees from the data's poses.

        Before and after their refinement; NaN for scenes without poses, and where the data has none.
        """
        if self.poses is None:
            return {}
        figures = {"pose_inliers": self.poses.inliers.amin(1)}
        for side, views in (("before", self.views), ("after", self.refined_views)):
            rotation, translation = pose_errors(views.world_to_camera, self.given_cameras)
            figures[f"pose_rotation_error_{side}"] = rotation.masked_fill(self.without_poses, math.nan)
            figures[f"pose_translation_error_{side}"] = translation.masked_fill(self.without_poses, math.nan)
        return figures

    @property
    def photographs(self) -> Float[Tensor, "B V 3 H W"]:
        """The context images."""
        assert self.views.images is not None
        return self.views.images


class Weights:
    """Proximal weights for a host's scenes: predicted by the head, or the same numbers everywhere.

    Args:
        adapter: The host's adapter.
        settings: The plugin's settings.
        feature_channels: Channels of the tapped feature map; 0 without one.
        gaussians_per_pixel: How many Gaussians the host predicts a pixel.
    """

    def __init__(
        self, adapter: HostAdapter, settings: PluginSettings, feature_channels: int, gaussians_per_pixel: int
    ) -> None:
        start = {group: float(settings.weights.get(group, DEFAULT_WEIGHTS[group])) for group in settings.tto.groups}
        self.fixed = ProximalWeights.of(start)
        self.backend = settings.tto.backend
        self.gaussians_per_pixel = gaussians_per_pixel
        self.head: nn.Module | None = None
        if settings.head == "fixed":
            return
        # The host's random stream is left as it is: with and without the plugin it sees the same data and noise.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(HEAD_SEED)
            self.head = registry.manager().hook.diff3r_head(
                adapter=adapter, settings=settings, feature_channels=feature_channels
            ) or UncertaintyHead(
                settings.tto.groups,
                feature_channels=feature_channels,
                gaussians_per_pixel=gaussians_per_pixel,
                hidden=settings.head_width,
                initial_weights=start,
            )

    def __call__(
        self, gaussians: Gaussians, views: Views, features: Float[Tensor, "B V C h w"] | None
    ) -> ProximalWeights:
        """Weights of a scene; with a graph to the head's parameters where gradients are on."""
        if self.head is None:
            return self.fixed
        gaussians = gaussians.detach()
        height, width = views.image_size or (0, 0)
        # Some hosts draw fewer samples a pixel when asked for a deterministic answer; the head sees each repeatedly.
        repeats = views.num_views * height * width * self.gaussians_per_pixel // max(gaussians.num_gaussians, 1)
        if repeats <= 1:
            return self.head(gaussians, views, features, self.backend)
        weights = self.head(gaussians.map(lambda t: t.repeat_interleave(repeats, 1)), views, features, self.backend)
        return ProximalWeights(
            **{group: w if group == "poses" else w[:, ::repeats] for group, w in weights.tensors().items()}
        )
