"""Which poses the context views have while a scene is refined: those of the data, or the prediction's own.

A host whose encoder sees the context poses predicts in the frame of the data: there is nothing to estimate. One that
does not (``HostAdapter.encoder_sees_poses``) predicts in the frame of its first context view. The poses of the data are
knowledge which that host does without, so at test they are used only if somebody says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diff3r_plugin.groups import GROUPS
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.refining.pose_estimation import opencv
from diff3r_plugin.plugin.refining.pose_sources import DATA, ESTIMATED, PREDICTED, SOURCES, PoseSource
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.proximal import ProximalWeights

FIRST_VIEW_WEIGHT = 1e8
"""Proximal weight of the first view's pose where poses are estimated.

Target cameras are given relative to the first view, so it must stay where it is: scene and cameras moving together
would leave the energy as it is and the targets wrong."""


def poses_of_stages(settings: PluginSettings, adapter: HostAdapter) -> dict[str, PoseSource]:
    """Where the poses come from in each stage of ``diff3r.refine``.

    Raises:
        PluginError: if poses are to be estimated where that makes no sense, or where OpenCV is missing; if a weight
            for poses is given that nothing uses.
    """
    chosen = settings.context_poses
    stages: dict[str, PoseSource]
    if chosen == PREDICTED.name and not adapter.predicts_poses:
        raise PluginError(
            f"diff3r.context_poses=predicted does not fit adapter {adapter.name!r}: its host predicts no poses. Leave "
            "the setting out, or use batch or estimate."
        )
    if adapter.predicts_poses and chosen == "auto":
        stages = dict.fromkeys(settings.refine, PREDICTED)
    elif adapter.encoder_sees_poses:
        if chosen == ESTIMATED.name:
            raise PluginError(
                f"diff3r.context_poses=estimate does not fit adapter {adapter.name!r}: its host gives the encoder "
                "the poses of the data, and the prediction lies in their frame. Leave the setting out, or use batch."
            )
        stages = dict.fromkeys(settings.refine, DATA)
    elif chosen == "auto":  # training as the host's own loss, which uses the poses of the data; else as in the wild
        stages = {stage: DATA if stage == "train" else ESTIMATED for stage in settings.refine}
    else:
        stages = dict.fromkeys(settings.refine, SOURCES[chosen])
    if ESTIMATED in stages.values():
        opencv()
    elif PREDICTED not in stages.values() and "poses" in settings.weights and "poses" not in settings.tto.groups:
        raise PluginError(
            "diff3r.weights.poses is set, but no pose moves: add poses to diff3r.groups, or leave the weight out."
        )
    return stages


def described(stages: Mapping[str, PoseSource]) -> str:
    """For the line at the start of a run: ``batch in train, estimate in val/test``."""
    return ", ".join(
        f"{source.name} in {'/'.join(stage for stage, its in stages.items() if its is source)}"
        for source in dict.fromkeys(stages.values())
    )


def with_pose_weights(weights: ProximalWeights, settings: PluginSettings, scenes: int, views: int) -> ProximalWeights:
    """The weights with one for each view's pose, the head's where it predicts one; the first view is held in place."""
    poses = weights.poses
    if poses is None:
        poses = float(settings.weights.get("poses", GROUPS["poses"].weight))
    if not isinstance(poses, Tensor):
        poses = torch.tensor(poses, dtype=torch.float32)
    held = torch.arange(views, device=poses.device)[:, None] == 0
    size = poses.shape[-1] if poses.ndim else 1
    return weights.replace(poses=torch.where(held, FIRST_VIEW_WEIGHT, poses.expand(scenes, views, size)))
