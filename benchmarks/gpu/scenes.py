"""Small scenes for the tests of devices: random and degenerate; made in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.random_scenes import random_scene, random_tangent
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import torch_backend
from diff3r_plugin.render.semantics import ALPHA_SKIP, TRANSMITTANCE_STOP

HIGHEST_OPACITY = 0.95
"""Below every alpha cap: it is 0.99 in the hosts' rasterizers and 0.999 in gsplat 1.5.x."""

CLEAR = 1e-4
"""Relative distance that a clear scene keeps from every threshold of the renderer. A float32 alpha is wrong by some
1e-5 (conics out of a determinant, centers of some 10 px, a fast exponential), so no pixel falls on the other side."""


def float32_scene(**options: Any) -> tuple[Gaussians, Views]:
    """A random scene whose numbers a float32 backend sees exactly, moderately opaque unless told otherwise.

    Args:
        options: Those of :func:`benchmarks.random_scenes.random_scene`.
    """
    scene, views = random_scene(**{"opacities": (0.05, HIGHEST_OPACITY), **options})
    return rounded(scene), views.to(torch.float32).to(torch.float64)


def rounded(scene: Gaussians) -> Gaussians:
    """The nearest float32 numbers, in float64: the oracle and a float32 backend then see the same scene."""
    return scene.to(torch.float32).to(torch.float64)


def clear_scene(
    change: Callable[[Gaussians], Gaussians] = lambda scene: scene, **options: Any
) -> tuple[Gaussians, Views]:
    """The first random scene (changed, if wanted) that stays clear of the thresholds at every pixel.

    Raises:
        RuntimeError: if there is none among many; make it smaller.
    """
    for seed in range(100):
        scene, views = float32_scene(seed=seed, **options)
        scene = rounded(change(scene))
        if threshold_distance(scene, views) > CLEAR:
            return scene, views
    raise RuntimeError(f"No scene with {options} stays clear of the thresholds by {CLEAR:g}.")


def threshold_distance(scene: Gaussians, views: Views) -> float:
    """Least relative distance of an alpha from the skip threshold, of a transmittance from the stop threshold, and of
    two neighbors in depth from each other. Looks at all pairs of pixels and splats: for small scenes."""
    splats = torch_backend.project(scene.with_covariances(), views)
    _, depths = torch_backend.project_unsorted(scene.with_covariances(), views)
    H, W = views.image_size
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    dx, dy = (torch.stack([x, y], -1).reshape(-1, 2)[:, None] - splats.means2d[:, :, None]).unbind(-1)
    a, b, c = splats.conics[:, :, None].unbind(-1)
    alphas = splats.opacities[:, :, None] * torch.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy).clamp_min(0))
    visible = torch.where(alphas >= ALPHA_SKIP, alphas.clamp_max(1 - 1e-9), 0)
    transmittance = torch.log1p(-visible).cumsum(-1).exp()
    gaps = depths.sort(-1).values.diff(dim=-1) / depths.abs().nan_to_num(1.0).mean()
    distances = [
        (alphas / ALPHA_SKIP - 1).abs(),
        (transmittance / TRANSMITTANCE_STOP - 1).abs(),
        gaps.nan_to_num(1.0),
    ]
    return min((float(d.min()) for d in distances if d.numel()), default=1.0)


def float32_tangent(scene: Gaussians, seed: int = 0) -> Gaussians:
    """A random direction in which a scene may change, in numbers that a float32 backend sees exactly."""
    return rounded(random_tangent(scene, seed))


def _with(scene: Gaussians, **changes: tuple[int, object]) -> Gaussians:
    values = {name: getattr(scene, name).clone() for name in ("means", "covariances", "opacities", "harmonics")}
    for name, (index, value) in changes.items():
        values[name][:, index] = torch.as_tensor(value, dtype=torch.float64)
    return Gaussians(**values)


DEGENERATE: dict[str, Callable[[Gaussians], Gaussians]] = {
    "behind the camera": lambda s: _with(s, means=(0, [0.0, 0.0, -4.0])),
    "beside the camera": lambda s: _with(s, means=(0, [0.5, 0.0, 0.0])),
    "NaN mean": lambda s: _with(s, means=(0, float("nan"))),
    "NaN harmonics": lambda s: _with(s, harmonics=(0, float("nan"))),
    "infinite covariance": lambda s: _with(s, covariances=(0, float("inf"))),
    "negative definite covariance": lambda s: _with(s, covariances=(0, -torch.eye(3))),
    "far outside the image": lambda s: _with(s, means=(0, [1e4, 0.0, 3.0])),
    "zero opacity": lambda s: _with(s, opacities=(0, 0.0)),
}
"""What is done to Gaussian 0 of every scene; all but "beside the camera" leave it invisible."""
