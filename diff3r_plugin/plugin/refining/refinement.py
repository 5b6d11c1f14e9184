"""One refined encoder call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.plugin.host.call import NO_CALL, Call
from diff3r_plugin.plugin.refining.pose_estimation import PoseEstimate, pose_errors
from diff3r_plugin.plugin.refining.pose_sources import DATA, PoseSource
from diff3r_plugin.plugin.refining.pruned import Pruned
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.views import Views


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
        confidence: The pixel weights of the context views, in [0, 1]; None where all count alike.
        untrusted: Scenes that keep their prediction because next to no pixel is trusted; None where all count alike.
        info: What the solver reports.
        seconds: Wall-clock time of conversion, poses, head and solver together.
        poses: What became of the poses where they were estimated; None where those of the data were used.
        given_cameras: ``world_to_camera`` of the context views in the data, NaN where it has none.
        source: Where the poses of the context views come from.
        pruned: What of the prediction is rendered; None: all of it.
        call: The call of the host, mutable arguments as the host's method left them.
        call_after: The same, mutable arguments as the refined scene left them.
    """

    before: Any
    after: Any
    gaussians: Gaussians
    refined: Gaussians
    views: Views
    weights: ProximalWeights
    confidence: Float[Tensor, "B V H W"] | None
    untrusted: Bool[Tensor, " B"] | None
    info: TTOInfo
    seconds: float
    poses: PoseEstimate | None
    given_cameras: Float[Tensor, "B V 4 4"]
    source: PoseSource = DATA
    pruned: Pruned | None = None
    call: Call = NO_CALL
    call_after: Call = NO_CALL

    @property
    def host_cameras(self) -> Float[Tensor, "B V 4 4"]:
        """``world_to_camera`` that the host itself renders the context views with."""
        return self.source.host_cameras(self.views, self.given_cameras)

    @property
    def refined_views(self) -> Views:
        """The context views with the cameras that belong to the refined scene."""
        return self.info.views.detach()

    @property
    def without_poses(self) -> Bool[Tensor, " B"]:
        """Scenes whose context views stand nowhere, because their poses could not be estimated."""
        if self.poses is None:
            return torch.zeros(self.views.batch_size, dtype=torch.bool, device=self.views.device)
        return self.poses.failed

    def pose_figures(self) -> dict[str, Float[Tensor, " B"]]:
        """Of estimated poses: share of agreeing pixels (least of the views), and degrees from the data's poses.

        Before and after their refinement; NaN for scenes without poses, and where the data has none.
        """
        if not self.source.moves:
            return {}
        figures = {} if self.poses is None else {"pose_inliers": self.poses.inliers.amin(1)}
        for side, views in (("before", self.views), ("after", self.refined_views)):
            rotation, translation = pose_errors(views.world_to_camera, self.given_cameras)
            figures[f"pose_rotation_error_{side}"] = rotation.masked_fill(self.without_poses, math.nan)
            figures[f"pose_translation_error_{side}"] = translation.masked_fill(self.without_poses, math.nan)
        return figures

    @property
    def context_images(self) -> Float[Tensor, "B V 3 H W"]:
        """The images of the context views."""
        return self.views.given_images
