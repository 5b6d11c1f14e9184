"""The data's cameras in the frame in which a network predicted: a similarity between two sets of cameras."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.views import Views


@torch.no_grad()
def in_frame_of(predicted: Float[Tensor, "B V 4 4"], given: Float[Tensor, "B V 4 4"], others: Views) -> Views:
    """Further views of the data, placed among predicted cameras as they stand among the given ones.

    The rotation is the mean one between both sets of cameras, the scale that of the distances between their centers;
    nothing has a gradient. Near and far planes are scaled along. Where all centers coincide the scale is one.

    Args:
        predicted: ``world_to_camera`` of the context views as the network predicts them.
        given: Those of the same views in the data.
        others: Views of the data, to be placed.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Views
        >>> from diff3r_plugin.training.similarity import in_frame_of
        >>> cameras = torch.eye(4).repeat(1, 3, 1, 1)
        >>> cameras[0, :, 0, 3] = torch.tensor([0.0, -1, -2])
        >>> twice = cameras.clone()
        >>> twice[..., :3, 3] *= 2
        >>> views = Views(cameras[:, 2:], torch.eye(3).expand(1, 1, 3, 3), image_size=(2, 2))
        >>> in_frame_of(twice[:, :2], cameras[:, :2], views).world_to_camera[0, 0, 0, 3].item()
        -4.0
    """
    rotation_there, center_there = _placed(predicted.double())
    rotation_here, center_here = _placed(given.double())
    u, _, vh = torch.linalg.svd((rotation_there @ rotation_here.mT).sum(1))
    mirror = torch.ones_like(u[:, 0])
    mirror[:, 2] = torch.linalg.det(u @ vh)
    turn = (u * mirror[:, None]) @ vh
    middle_there, middle_here = center_there.mean(1, keepdim=True), center_here.mean(1, keepdim=True)
    spread_there = (center_there - middle_there).square().sum((1, 2)).sqrt()
    spread_here = (center_here - middle_here).square().sum((1, 2)).sqrt()
    known = (spread_here > 1e-9) & (spread_there > 1e-9)
    scale = torch.where(known, spread_there / spread_here.clamp_min(1e-9), 1.0)[:, None]

    rotation, center = _placed(others.world_to_camera.double())
    rotation = turn[:, None] @ rotation
    center = middle_there + scale[..., None] * (center - middle_here) @ turn.mT
    cameras = torch.eye(4, dtype=torch.float64, device=rotation.device).repeat(*rotation.shape[:2], 1, 1)
    cameras[..., :3, :3] = rotation.mT
    cameras[..., :3, 3] = -(rotation.mT @ center[..., None])[..., 0]
    scale = scale.to(others.near)
    return others.replace(world_to_camera=cameras.to(others.dtype), near=scale * others.near, far=scale * others.far)


def _placed(world_to_camera: Float[Tensor, "B V 4 4"]) -> tuple[Float[Tensor, "B V 3 3"], Float[Tensor, "B V 3"]]:
    """Orientations (camera to world) and centers."""
    rotation = world_to_camera[..., :3, :3].mT
    return rotation, -(rotation @ world_to_camera[..., :3, 3:])[..., 0]
