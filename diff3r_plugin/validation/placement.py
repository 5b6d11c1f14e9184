"""Cameras that look away from everything: axes of another convention, or matrices of the inverse direction."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.validation.finding import Finding
from diff3r_plugin.views import Views

SAMPLE = 1024
"""Gaussians of a scene that are looked at first; one of them in front of one camera is enough."""


def placement_finding(gaussians: Gaussians, views: Views) -> Finding:
    """Whether no scene of a call has anything in front of any of its cameras.

    A scene that looks away beside others that do not is a bad prediction, not a wrong convention, and no error.
    """
    means = gaussians.means.detach()
    some = means[:, :: max(1, -(-means.shape[1] // SAMPLE))]
    return Finding(~_in_front(some, views).any(), lambda: _looking_away(gaussians, views))


def _in_front(means: Tensor, views: Views) -> Bool[Tensor, " B"]:
    """Scenes with a center between near and far in one of their views; False where nothing is finite."""
    w2c = views.world_to_camera.detach().to(means.dtype)
    row, offset = w2c[:, :, None, 2, :3], w2c[:, :, None, 2, 3]
    depths = (means[:, None] * row).sum(-1) + offset
    return ((depths > views.near[..., None]) & (depths < views.far[..., None])).flatten(1).any(1)


def _looking_away(gaussians: Gaussians, views: Views) -> str | None:
    means = gaussians.means.detach()
    finite = torch.stack(
        [t.detach().isfinite().flatten(1).all(1) for t in (means, views.world_to_camera, views.intrinsics)]
    ).all(0)
    seen = torch.stack([_in_front(means, _view(views, v)) for v in range(views.num_views)]).any(0)
    if not finite.any() or seen.any():
        return None
    scene = int(finite.nonzero()[0])
    w2c = views.world_to_camera[scene, 0].detach().to(means.dtype)
    depths = (means[scene] * w2c[2, :3]).sum(-1) + w2c[2, 3]
    near, far = float(views.near[scene, 0]), float(views.far[scene, 0])
    behind = float(depths.max()) <= near
    cure = (
        "Cameras with OpenGL or Blender axes (y up, z backward) need y and z negated, the second and third row of "
        "world_to_camera; camera-to-world matrices need torch.linalg.inv."
        if behind
        else "Means, translations, near and far must be in the same world units."
    )
    return (
        f"No Gaussian is in front of any camera: the depths of scene {scene} in view 0 run from "
        f"{float(depths.min()):.3g} to {float(depths.max()):.3g}, drawn is what lies between near={near:g} and "
        f"far={far:g}. {cure}"
    )


def _view(views: Views, index: int) -> Views:
    """One view of each scene, without its image."""
    one = slice(index, index + 1)
    return views.replace(
        world_to_camera=views.world_to_camera[:, one],
        intrinsics=views.intrinsics[:, one],
        images=None,
        near=views.near[:, one],
        far=views.far[:, one],
    )
