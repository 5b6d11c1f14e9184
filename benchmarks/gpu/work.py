"""How much a pass of the rasterizer has to do at least, and how much a device can do.

**Pairs** of a pixel and a splat are counted, with tiles of 16 x 16 pixels. A splat is listed in every tile that the
box ± √(2 ln 255 o) · (√Σxx, √Σyy) around its center touches, where its alpha can reach 1/255 (Σ: its covariance, px²).
A pixel *visits* the list of its tile from front to back, up to the splat that would bring its transmittance below 1e-4;
it *blends* what it visits with an alpha of at least 1/255. A rasterizer whose lists are longer visits more.

**Floating-point operations**, counted in ``kernels/pixel_math.h`` and ``tile_passes.h``; an addition, a multiplication,
a division and an exponential are one each, signs and comparisons none:

    J v        13 · visited + 46 · blended      alpha 13; its tangent 25, blending 3, its tangent 6, colors 12
    JᵀWJ v     26 · visited + 77 · blended      both passes; the transposed one: alpha 13; blending 3, light 5, what is
                                                behind and d ln alpha 6, moments 11, colors 6

**Bytes** in float32: a scene has S = Σ numbers of its tensors (3 + 9 + 1 + 3 K per Gaussian), every entry of a list is
read by its tile once (a 4-byte id, 9 numbers of the splat, 9 of its tangent), 9 numbers per splat and image go
between projection and rasterizer:

    J v        4 · (2 S + 9 splats) + 76 · listed + 12 · pixels
    JᵀWJ v     4 · (4 S + 18 splats) + (76 + 112) · listed + 16 · pixels      cotangents are added: read and written

Neither count knows of caches, of atomics that are repeated, of work per Gaussian and view (some hundred operations), or
of lanes that idle beside others: shares of what is achievable say how far a kernel is from the least it must do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.timing import seconds
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import torch_backend
from diff3r_plugin.render.semantics import ALPHA_CAP, ALPHA_SKIP, TRANSMITTANCE_STOP

COUNTING = __doc__
"""How it is counted: goes into the results beside the figures."""

TILE = 16
LISTED_AT_ONCE = 2**16
"""List entries whose 256 pixels are looked at together; bounds memory to some hundred megabytes."""


@dataclass(frozen=True)
class Pairs:
    """What the renderings of one batch consist of.

    Args:
        listed: Entries of all tiles' lists.
        visited: Pairs of a pixel and a splat that a pixel looks at.
        blended: Pairs that contribute to a pixel.
    """

    listed: int
    visited: int
    blended: int


def count_pairs(gaussians: Gaussians, views: Views) -> Pairs:
    """Count the pairs of all images; see the module's text. Runs on the scenes' device, one image at a time."""
    total = [0, 0, 0]
    with torch.no_grad():
        for b in range(gaussians.batch_size):
            scene = gaussians.map(lambda t, b=b: t[b : b + 1])  # type: ignore[misc]
            for v in range(views.num_views):
                at = (slice(b, b + 1), slice(v, v + 1))
                names = ("world_to_camera", "intrinsics", "near", "far")
                one = views.replace(images=None, **{name: getattr(views, name)[at] for name in names})
                total = [t + n for t, n in zip(total, _count_image(scene, one), strict=True)]
    return Pairs(*total)


def _count_image(scene: Gaussians, view: Views) -> tuple[int, int, int]:
    splats, depths = torch_backend.project_unsorted(scene, view)
    height, width = view.image_size
    means, conics, opacities = splats.means2d[0, 0], splats.conics[0, 0], splats.opacities[0, 0]
    order = depths[0, 0].argsort()
    order = order[opacities[order] >= ALPHA_SKIP]
    means, conics, opacities = means[order], conics[order], opacities[order]
    determinants = conics[:, 0] * conics[:, 2] - conics[:, 1] ** 2
    sigmas = (torch.stack([conics[:, 2], conics[:, 0]], -1) / determinants[:, None]).sqrt()
    extents = (2 * torch.log(opacities / ALPHA_SKIP)).sqrt()[:, None] * sigmas
    tiles = torch.tensor([-(-width // TILE), -(-height // TILE)], device=means.device)
    first = ((means - extents) / TILE).floor().long().clamp_min(0).minimum(tiles)
    last = (((means + extents) / TILE).floor().long() + 1).clamp_min(0).minimum(tiles)
    spans = (last - first).clamp_min(0)
    counts = spans.prod(-1)
    listed = int(counts.sum())
    entries = torch.repeat_interleave(torch.arange(len(counts), device=means.device), counts)
    within = torch.arange(listed, device=means.device) - (counts.cumsum(0) - counts)[entries]
    columns = first[entries, 0] + within % spans[entries, 0].clamp_min(1)
    rows = first[entries, 1] + within // spans[entries, 0].clamp_min(1)
    tile_of, position = (rows * tiles[0] + columns).sort(stable=True)  # lists stay in order of depth
    entries = entries[position]
    starts = torch.cat([tile_of.new_zeros(1), tile_of.bincount(minlength=int(tiles.prod())).cumsum(0)]).tolist()

    offsets = torch.arange(TILE, device=means.device)
    visited = blended = 0
    begin = 0
    while begin < len(starts) - 1:
        end = begin + 1
        while end < len(starts) - 1 and starts[end + 1] - starts[begin] <= LISTED_AT_ONCE:
            end += 1
        chunk, tile = entries[starts[begin] : starts[end]], tile_of[starts[begin] : starts[end]]
        x = ((tile % tiles[0])[:, None, None] * TILE + offsets).expand(-1, TILE, -1).flatten(1)
        y = ((tile // tiles[0])[:, None, None] * TILE + offsets[:, None]).expand(-1, -1, TILE).flatten(1)
        inside = (x < width) & (y < height)
        alphas = _alphas(means[chunk], conics[chunk], opacities[chunk], x + 0.5, y + 0.5)
        lengths = torch.tensor(starts[begin : end + 1], device=means.device).diff()
        before, after = _log_transmittances(alphas, lengths)
        stop = torch.log(torch.tensor(TRANSMITTANCE_STOP, dtype=torch.float64))
        visited += int((inside & (before >= stop)).sum())
        blended += int((inside & (alphas > 0) & (after >= stop)).sum())
        begin = end
    return listed, visited, blended


def _alphas(means: Tensor, conics: Tensor, opacities: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Alpha of each list entry at the pixels of its tile, ``[L, 256]``; 0 below the skip threshold."""
    dx, dy = x - means[:, :1], y - means[:, 1:]
    a, b, c = (conics[:, i : i + 1] for i in range(3))
    alphas = opacities[:, None] * torch.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy).clamp_min(0))
    return torch.where(alphas >= ALPHA_SKIP, alphas.clamp_max(ALPHA_CAP), 0)


def _log_transmittances(alphas: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of the transmittance before and after each entry of consecutive lists, ``[L, 256]`` float64."""
    steps = torch.log1p(-alphas.double())
    sums = torch.cat([steps.new_zeros(1, steps.shape[1]), steps.cumsum(0)])
    starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return sums[:-1] - sums[starts], sums[1:] - sums[starts]


FLOPS = {"jvp": (13, 46), "product": (26, 77)}
"""Operations per visited and per blended pair."""


def flops(kernel: str, pairs: Pairs) -> int:
    """Floating-point operations of a pass; see the module's text."""
    visited, blended = FLOPS[kernel]
    return visited * pairs.visited + blended * pairs.blended


def bytes_moved(kernel: str, pairs: Pairs, gaussians: Gaussians, views: Views) -> int:
    """Bytes that a pass has to move at least; see the module's text."""
    images = views.batch_size * views.num_views
    pixels = images * views.image_size[0] * views.image_size[1]
    numbers = sum(t.numel() for t in gaussians.tensors())
    splats = images * gaussians.num_gaussians
    if kernel == "jvp":
        return 4 * (2 * numbers + 9 * splats) + 76 * pairs.listed + 12 * pixels
    return 4 * (4 * numbers + 18 * splats) + 188 * pairs.listed + 16 * pixels


def achievable(device: torch.device, copied: int = 2**30, side: int = 8192) -> dict[str, float]:
    """Rates that a device reaches: bytes per second of a copy, FP32 operations per second of a matrix product.

    Args:
        copied: Bytes of the tensor that is copied; each is read once and written once.
        side: Rows and columns of the matrices, multiplied without TF32.
    """
    rates = _copied_a_second(copied, device), _multiplied_a_second(side, device)
    return dict(zip(("bytes_per_second", "flops_per_second"), rates, strict=True))


def _copied_a_second(copied: int, device: torch.device) -> float:
    source = torch.rand(copied // 4, device=device)
    target = torch.empty_like(source)
    return 2 * copied / seconds(lambda: target.copy_(source), device)


def _multiplied_a_second(side: int, device: torch.device) -> float:
    matrix = torch.rand(side, side, device=device)
    product = torch.empty_like(matrix)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return 2 * side**3 / seconds(lambda: torch.mm(matrix, matrix, out=product), device, budget=2.0)
    finally:
        torch.set_float32_matmul_precision(precision)
