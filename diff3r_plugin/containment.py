"""Trouble stays in the scene it comes from: what may enter the arithmetic, and what takes the place of what may not."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from diff3r_plugin.finite import finite_rows
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.views import Views


def ordinary(tensor: Tensor) -> Tensor:
    """A tensor that autograd accepts: inference tensors are copied."""
    return tensor.clone() if tensor.is_inference() else tensor


def ordinary_views(views: Views, dtype: torch.dtype) -> tuple[Views, Tensor]:
    """Views without a graph in the layer's precision, and their images with the graph they came with."""
    images = ordinary(views.given_images).to(dtype)
    detached = {
        name: ordinary(getattr(views, name)).detach().to(dtype)
        for name in ("world_to_camera", "intrinsics", "near", "far", "background")
    }
    return replace(views, images=images, **detached), images  # type: ignore[arg-type]


def with_graph(views: Views, dtype: torch.dtype) -> Views:
    """Views without images in the layer's precision, with whatever graph their cameras came with."""
    cameras = {name: ordinary(getattr(views, name)).to(dtype) for name in ("world_to_camera", "intrinsics")}
    others = {name: ordinary(getattr(views, name)).detach().to(dtype) for name in ("near", "far", "background")}
    return replace(views, images=None, **cameras, **others)  # type: ignore[arg-type]


def finite_scenes(*tensors: Tensor) -> Bool[Tensor, " B"]:
    """Scenes in which all these tensors, ``[B, ...]``, are finite."""
    return torch.stack([finite_rows(t.flatten(1)) for t in tensors]).all(0)


def like(mask: Bool[Tensor, " B"], tensor: Tensor) -> Tensor:
    """The mask with as many axes as ``tensor`` ``[B, ...]``, to broadcast with it."""
    return mask.reshape(-1, *[1] * (tensor.ndim - 1))


def choose(mask: Bool[Tensor, " B"], first: Gaussians, second: Gaussians) -> Gaussians:
    """``first`` where the mask holds, else ``second``; scene by scene."""
    names = ("means", "covariances", "opacities", "harmonics", "scales", "quats")
    chosen = {}
    for name in names:
        a, b = getattr(first, name), getattr(second, name)
        chosen[name] = None if a is None else torch.where(like(mask, a), a, b)
    return Gaussians(**chosen)  # type: ignore[arg-type]


def stand_in(gaussians: Gaussians, broken: Bool[Tensor, " B"]) -> Gaussians:
    """Broken scenes replaced by empty ones, so that no NaN of theirs meets the arithmetic of the others."""
    return choose(broken, gaussians.map(torch.zeros_like), gaussians)


def stand_in_views(views: Views, broken: Bool[Tensor, " B"]) -> Views:
    """Cameras of broken scenes replaced by identities, for the same reason."""
    changes = {}
    for name in ("world_to_camera", "intrinsics"):
        own = getattr(views, name)
        identity = torch.eye(own.shape[-1], dtype=own.dtype, device=own.device)
        changes[name] = torch.where(like(broken, own), identity, own)
    return views.replace(**changes)
