"""Growing and pruning between rounds: Gaussians that show nothing go, those where the images are missed divide."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians, rotation_matrices
from diff3r_plugin.io.quaternions import scales_and_quats

APART = 0.6
"""Of a Gaussian's size along its longest axis: how far from its center its halves begin, one on each side."""
SHRUNK = (1 - APART**2) ** 0.5
"""Of that size: with this, both halves together have the second moments of the whole."""
FAINTEST = 0.005
"""Opacity below which a Gaussian goes: at 1/255 it would show nowhere."""
SMALLEST = 0.05
"""Size in pixels at the nearest camera below which nothing can be told from the 0.55 that every splat is widened by."""
LARGEST = 1.0
"""Size, of the distance to the nearest camera, above which a Gaussian fills every view and none holds it."""


def with_scales(scene: Gaussians) -> Gaussians:
    """The same scene by scales and quaternions (itself if it has them)."""
    if scene.scales is not None:
        return scene
    scales, quats = scales_and_quats(scene)
    shapes = (
        scales.reshape(*scene.means.shape).to(scene.dtype),
        quats.reshape(*scene.means.shape[:2], 4).to(scene.dtype),
    )
    return Gaussians.from_scales(scene.means, *shapes, scene.opacities, scene.harmonics)


def bounded(scene: Gaussians, before: Gaussians, centers: Float[Tensor, "F 3"], focal: float) -> Gaussians:
    """The scene with sizes between what a camera resolves and the distance to it.

    A Gaussian that a few pixels see the edge of grows from round to round, until its covariance overflows and no linear
    solve ends. What was larger or smaller before may stay so.

    Args:
        scene: One scene of scales and quaternions.
        before: The same Gaussians before they were refined.
        centers: Of all cameras.
        focal: Their focal length, pixels.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians
        >>> from diff3r_plugin.refine.growth import bounded
        >>> def one(*scales):
        ...     upright = torch.tensor([[[1.0, 0, 0, 0]]])
        ...     return Gaussians.from_scales(
        ...         torch.tensor([[[0.0, 0, 2]]]),
        ...         torch.tensor([[scales]]),
        ...         upright,
        ...         torch.ones(1, 1),
        ...         torch.ones(1, 1, 3, 1),
        ...     )
        >>> scales = bounded(one(1e6, 1e-9, 0.1), one(0.5, 0.5, 0.5), torch.zeros(1, 3), 100.0).scales
        >>> torch.allclose(scales, torch.tensor([2.0, 0.001, 0.1]))
        True
    """
    assert scene.scales is not None and before.scales is not None
    distance = torch.cdist(scene.means[0], centers).amin(1)[None, :, None]
    least = before.scales.minimum(SMALLEST / focal * distance)
    most = before.scales.maximum(LARGEST * distance)
    return replace(scene, scales=scene.scales.maximum(least).minimum(most))


def pruned(scene: Gaussians) -> tuple[Gaussians, Int[Tensor, " M"]]:
    """The scene without Gaussians too faint to show, and the numbers of those that stay."""
    stay = (scene.opacities[0] >= FAINTEST).nonzero()[:, 0]
    return scene.map(lambda t: t[:, stay]), stay


def divided(scene: Gaussians, chosen: Int[Tensor, " M"]) -> Gaussians:
    """The scene with each of the ``chosen`` Gaussians in two halves along its longest axis; the second ones come last.

    The halves keep the second moments, and where they are faint the light, of the whole: 3D Gaussian splatting samples
    its children (Kerbl et al. 2023), and a rendering that jumps costs a second-order method the steps that repair it.

    Args:
        scene: One scene of scales and quaternions.
        chosen: Numbers of Gaussians, each once.
    """
    assert scene.scales is not None and scene.quats is not None
    part = scene.map(lambda t: t[:, chosen])
    assert part.scales is not None and part.quats is not None
    longest = part.scales.argmax(-1, keepdim=True)
    size = part.scales.gather(-1, longest)
    axis = rotation_matrices(part.quats).gather(-1, longest[..., None].expand(-1, -1, 3, 1))[..., 0]
    smaller = replace(
        part,
        scales=part.scales.scatter(-1, longest, SHRUNK * size),
        opacities=1 - (1 - part.opacities.clamp_max(1 - 1e-6)) ** (0.5 / SHRUNK),
    )
    halves = [replace(smaller, means=part.means + sign * APART * size * axis) for sign in (1, -1)]

    def joined(whole: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([whole.index_copy(1, chosen, first), second], 1)

    parts = zip(scene.tensors(), halves[0].tensors(), halves[1].tensors(), strict=True)
    means, opacities, harmonics, scales, quats = (joined(*three) for three in parts)
    return Gaussians.from_scales(means, scales, quats, opacities, harmonics)


def grown(scene: Gaussians, missed: Float[Tensor, " N"], target: int, generator: torch.Generator) -> Gaussians:
    """The scene with faint Gaussians removed, and as many divided as make ``target`` of it, at most half of them.

    Args:
        scene: One scene of scales and quaternions.
        missed: What the images lack where each Gaussian shows, not negative; the more, the sooner it divides.
        target: Gaussians of the result, at most.
        generator: Which ones is drawn, so that a few bad pixels do not take all.
    """
    scene, stay = pruned(scene)
    more = min(target - scene.num_gaussians, scene.num_gaussians // 2)
    if more <= 0:
        return scene
    weights = missed[stay].double().cpu().clamp_min(0)
    most = int((weights > 0).sum())
    if not most:
        return scene
    chosen = torch.multinomial(weights, min(more, most), generator=generator).sort().values
    return divided(scene, chosen.to(scene.device))
