"""Where the poses of the context views come from while a scene is refined: three answers with one interface.

Which of them a stage has is chosen once (`context_poses.poses_of_stages`); a call asks its source for cameras and never
which one it is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.plugin.refining.pose_estimation import PoseEstimate, estimate_poses
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class PlacedViews:
    """The context views where a source puts them.

    Args:
        views: Without graph, for all that only looks at them.
        start: Where refinement starts: with the graph of predicted cameras, NaN for scenes without poses.
        estimate: What became of the poses where they were estimated.
    """

    views: Views
    start: Views
    estimate: PoseEstimate | None = None


class PoseSource(ABC):
    """Whose poses the context views have.

    Attributes:
        name: As ``diff3r.context_poses`` and scores files call it.
        moves: Whether they are refined with the scene, the first view held.
    """

    name: ClassVar[str]
    moves: ClassVar[bool]

    @abstractmethod
    def place(self, gaussians: Gaussians, tracked: Views, given: Float[Tensor, "B V 4 4"]) -> PlacedViews:
        """The views to refine on.

        Args:
            gaussians: The prediction.
            tracked: The context views as the adapter reads them, with the graph of cameras that the host predicts.
            given: ``world_to_camera`` in the data, NaN where it has none.
        """

    def start_again(self, views: Views, estimate: PoseEstimate | None) -> Views:
        """`PlacedViews.start` once more, without graph, from what was kept."""
        return views

    def host_cameras(self, views: Views, given: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 4 4"]:
        """``world_to_camera`` that the host itself renders the context views with."""
        return given

    def written_cameras(self, info: TTOInfo) -> Tensor | None:
        """Refined ``world_to_camera`` for the host's output; None where the output holds none."""
        return None

    @abstractmethod
    def about(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """What to know of scores of a host whose encoder does not see the context poses.

        Args:
            entries: One a scene, from a scores file.
        """


class DataPoses(PoseSource):
    """Those of the data, held."""

    name, moves = "batch", False

    def place(self, gaussians: Gaussians, tracked: Views, given: Float[Tensor, "B V 4 4"]) -> PlacedViews:
        views = tracked.detach().replace(world_to_camera=given)
        return PlacedViews(views, views)

    def about(self, entries: Sequence[Mapping[str, Any]]) -> str:
        return (
            "context poses: those of the data (diff3r.context_poses=batch), which this host's encoder does not "
            "see: the scores after refinement are not those of a pose-free method"
        )


class EstimatedPoses(PoseSource):
    """Estimated from the prediction itself, then refined with it."""

    name, moves = "estimate", True

    def place(self, gaussians: Gaussians, tracked: Views, given: Float[Tensor, "B V 4 4"]) -> PlacedViews:
        views = tracked.detach()
        estimate = estimate_poses(gaussians, views)
        views = views.replace(world_to_camera=estimate.world_to_camera)
        return PlacedViews(views, self.start_again(views, estimate), estimate)

    def start_again(self, views: Views, estimate: PoseEstimate | None) -> Views:
        return views if estimate is None else views.replace(world_to_camera=estimate.or_nan())

    def about(self, entries: Sequence[Mapping[str, Any]]) -> str:
        lost = sum(math.isnan(entry["before"]["psnr_context"]) for entry in entries)
        return (
            f"context poses: estimated from the prediction, then refined with it; error against the data: "
            f"{_errors(entries)}; {lost} of {len(entries)} scenes without poses kept their initial Gaussians"
        )


class PredictedPoses(PoseSource):
    """Those in the encoder's output, refined with the scene and written back."""

    name, moves = "predicted", True

    def place(self, gaussians: Gaussians, tracked: Views, given: Float[Tensor, "B V 4 4"]) -> PlacedViews:
        return PlacedViews(tracked.detach(), tracked)

    def host_cameras(self, views: Views, given: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 4 4"]:
        return views.world_to_camera

    def written_cameras(self, info: TTOInfo) -> Tensor | None:
        return info.views.world_to_camera

    def about(self, entries: Sequence[Mapping[str, Any]]) -> str:
        return (
            "context poses: predicted by the host, then refined with the scene; difference to the data's: "
            f"{_errors(entries)}"
        )


def _errors(entries: Sequence[Mapping[str, Any]]) -> str:
    """Mean angles before and after refinement, over the scenes that have poses."""

    def mean(name: str) -> float:
        return torch.tensor([entry[name] for entry in entries], dtype=torch.float64).nanmean().item()

    kinds = {"rotation": "pose_rotation_error", "direction": "pose_translation_error"}
    parts = [f"{kind} {mean(f'{name}_before'):.2f} to {mean(f'{name}_after'):.2f}" for kind, name in kinds.items()]
    return f"{', '.join(parts)} degrees"


DATA, ESTIMATED, PREDICTED = DataPoses(), EstimatedPoses(), PredictedPoses()

SOURCES: Mapping[str, PoseSource] = MappingProxyType({source.name: source for source in (DATA, ESTIMATED, PREDICTED)})
"""By the names that settings and adapters use."""
