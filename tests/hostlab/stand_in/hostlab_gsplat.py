"""gsplat's `rasterization` on a CPU, by this project's renderer: what hosts call of it; nothing is taken in silence.

An option that this does not know, or cannot do as gsplat does, is an error: a host whose image formation was swallowed
would be rendered in another one, and an adapter be verified against it.
"""

from __future__ import annotations

import torch
from torch import Tensor

DC = 0.28209479177387814
MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
NEUTRAL = {
    "packed": (True, False),
    "tile_size": (16,),
    "sparse_grad": (False,),
    "absgrad": (False,),
    "channel_chunk": (32,),
    "distributed": (False,),
    "camera_model": ("pinhole",),
    "segmented": (False,),
    "with_ut": (False,),
    "with_eval3d": (False,),
}
"""Options that change nothing in what is rendered, and the values with which that is so."""


def rasterization(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    covars: Tensor | None = None,
    **others: object,
) -> tuple[Tensor, Tensor, dict]:
    """Colors ``[..., C, H, W, 3]``, with depth as a fourth channel in RGB+D and RGB+ED; alphas ``[..., C, H, W, 1]``.

    Any batch dimensions, or none.
    """
    from diff3r_plugin import Gaussians, Views
    from diff3r_plugin.render import render

    _refuse(others, radius_clip, eps2d, render_mode, rasterize_mode)
    batch = means.shape[:-2]
    lead = (-1,) if batch else (1,)

    def flat(value: Tensor, axes: int) -> Tensor:
        return value.reshape(*lead, *value.shape[value.ndim - axes :])

    means, opacities, viewmats, Ks = flat(means, 2), flat(opacities, 1), flat(viewmats, 3), flat(Ks, 3)
    if sh_degree is None:
        harmonics = ((flat(colors, 2) - 0.5) / DC)[..., None]
    else:
        harmonics = flat(colors, 3)[:, :, : (sh_degree + 1) ** 2].mT

    def scene(harmonics: Tensor) -> Gaussians:
        if covars is not None:
            return Gaussians(means, flat(covars, 3), opacities, harmonics)
        return Gaussians.from_scales(means, flat(scales, 2), flat(quats, 2), opacities, harmonics)

    formation = {"antialiased": rasterize_mode == "antialiased", "dilation": float(eps2d)}
    drawn, alphas = [], []
    for number in range(viewmats.shape[1]):
        views = Views(
            viewmats[:, number, None],
            Ks[:, number, None],
            near=float(near_plane) + 1e-9,
            far=float(far_plane),
            image_size=(height, width),
            **formation,
        )
        background = torch.zeros(3) if backgrounds is None else flat(backgrounds, 2)[0, number]
        color = render(scene(harmonics), views.replace(background=background))[:, 0]
        depth = (means @ viewmats[:, number, 2, :3, None])[..., 0] + viewmats[:, number, None, 2, 3]
        shades = torch.stack([depth, torch.ones_like(depth), torch.zeros_like(depth)], -1)  # depth, alpha
        maps = render(scene(((shades - 0.5) / DC)[..., None]), views)[:, 0]
        far_away = maps[:, :1] / maps[:, 1:2].clamp_min(1e-10) if "ED" in render_mode else maps[:, :1]
        parts = [color] if "RGB" in render_mode else []
        drawn.append(torch.cat([*parts, far_away] if "D" in render_mode else parts, 1).movedim(1, -1))
        alphas.append(maps[:, 1:2].movedim(1, -1))
    shapes = [torch.stack(images, 1).reshape(*batch, *images_shape(images)) for images in (drawn, alphas)]
    return shapes[0], shapes[1], {"means2d": _centers(means, viewmats, Ks).reshape(*batch, -1, means.shape[1], 2)}


def images_shape(images: list[Tensor]) -> tuple[int, ...]:
    return (len(images), *images[0].shape[1:])


def _refuse(others: dict, radius_clip: float, eps2d: float, render_mode: str, rasterize_mode: str) -> None:
    """Raise for whatever would be rendered otherwise than gsplat does."""
    for name, value in others.items():
        if name not in NEUTRAL:
            raise TypeError(f"this stand-in for gsplat does not know the option {name}={value!r}")
        if value not in NEUTRAL[name]:
            raise NotImplementedError(f"this stand-in for gsplat has no {name}={value!r}, only {NEUTRAL[name]}")
    if render_mode not in MODES or rasterize_mode not in ("classic", "antialiased"):
        raise NotImplementedError(f"render_mode={render_mode!r}, rasterize_mode={rasterize_mode!r}")
    if radius_clip > 3 * eps2d**0.5:  # a splat is at least as wide as the dilation makes it
        raise NotImplementedError(f"radius_clip={radius_clip} would drop splats")


def _centers(means: Tensor, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """Where the Gaussians' centers project, ``[B, C, N, 2]``."""
    points = torch.einsum("bcij,bnj->bcni", viewmats[..., :3, :3], means) + viewmats[..., None, :3, 3]
    pixels = torch.einsum("bcij,bcnj->bcni", Ks, points)
    return pixels[..., :2] / pixels[..., 2:].clamp_min(1e-8)


def quat_scale_to_covar_preci(
    quats: Tensor, scales: Tensor, compute_covar: bool = True, compute_preci: bool = True, triu: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """Covariances of scales and wxyz quaternions; precisions and triangles are asked for by none of these hosts."""
    assert compute_covar and not triu
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    half = torch.stack([torch.stack(row, -1) for row in rows], -2) * scales[..., None, :]
    return half @ half.mT, None
