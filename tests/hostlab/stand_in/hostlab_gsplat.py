"""gsplat's `rasterization` on a CPU, by this project's renderer: what VicaSplat, EcoSplat and AnySplat call of it."""

from __future__ import annotations

import torch
from torch import Tensor

DC = 0.28209479177387814


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
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    covars: Tensor | None = None,
    **others: object,
) -> tuple[Tensor, Tensor, dict]:
    """Colors ``[C, H, W, 3]``, with accumulated depth as a fourth channel in RGB+D; alphas ``[C, H, W, 1]``."""
    from diff3r_plugin import Gaussians, Views
    from diff3r_plugin.render import render

    def scene(harmonics: Tensor) -> Gaussians:
        shared = (means[None], opacities[None], harmonics[None])
        if covars is not None:
            return Gaussians(shared[0], covars[None], *shared[1:])
        return Gaussians.from_scales(shared[0], scales[None], quats[None], *shared[1:])

    drawn, alphas = [], []
    for camera, K, number in zip(viewmats, Ks, range(len(Ks)), strict=True):
        background = torch.zeros(3) if backgrounds is None else backgrounds[number]
        near, far = float(near_plane) + 1e-9, float(far_plane)
        views = Views(camera[None, None], K[None, None], None, near, far, (height, width))
        color = render(scene(colors[:, : (sh_degree + 1) ** 2].mT), views.replace(background=background))[0, 0]
        depth = means @ camera[2, :3] + camera[2, 3]
        shades = torch.stack([depth, torch.ones_like(depth), torch.zeros_like(depth)], -1)  # depth, alpha
        maps = render(scene(((shades - 0.5) / DC)[..., None]), views)[0, 0]
        parts = [color, maps[:1]] if render_mode == "RGB+D" else [color]
        drawn.append(torch.cat(parts).permute(1, 2, 0))
        alphas.append(maps[1:2].permute(1, 2, 0))
    return torch.stack(drawn), torch.stack(alphas), {}


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
