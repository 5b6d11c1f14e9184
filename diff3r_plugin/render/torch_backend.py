"""The oracle: a renderer in plain PyTorch, tile-free, obviously right, differentiable any number of times.

Every other backend is tested against this one. It looks at all (pixel, Gaussian) pairs, a chunk of pixels at a
time, so it is for small scenes and for machines without a compiler. The formulas are those of 3D Gaussian
splatting (Kerbl et al. 2023; EWA splatting, Zwicker et al. 2001), the constants those of ``semantics``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.linalg.small import SYMMETRIC_ENTRIES
from diff3r_plugin.render.linearization import GaussianGram
from diff3r_plugin.render.semantics import (
    ALPHA_CAP,
    ALPHA_SKIP,
    COLOR_OFFSET,
    FRUSTUM_MARGIN,
    TRANSMITTANCE_STOP,
)
from diff3r_plugin.render.spherical_harmonics import spherical_harmonics_basis
from diff3r_plugin.views import Views

NEEDS = ""
"""What a machine must have, for the message where it has not."""

FOLLOWED_BY_AUTOGRAD = True
"""Whether `render_image` is made of differentiable functions of PyTorch's."""

RUNS_ON: tuple[str, ...] | None = None
"""Kinds of devices it computes on, tensors of others being copied there and back; None: wherever tensors are."""

PAIRS_PER_CHUNK = 2**22
"""Pixel-Gaussian pairs looked at together; bounds memory to some hundred megabytes."""


class Splats(NamedTuple):
    """What a Gaussian is to one image: nine numbers, and the depth it is sorted by. Front to back along N."""

    means2d: Float[Tensor, "B V N 2"]
    conics: Float[Tensor, "B V N 3"]
    opacities: Float[Tensor, "B V N"]
    colors: Float[Tensor, "B V N 3"]


def render_image(gaussians: Gaussians, views: Views) -> Float[Tensor, "B V 3 H W"]:
    """Renderings of the scenes; gradients of any order reach the Gaussians and ``world_to_camera``."""
    return composite(project(gaussians.with_covariances(), views), views)


def project(gaussians: Gaussians, views: Views) -> Splats:
    """Splats of every Gaussian in every view; invisible ones get opacity 0."""
    splats, depths = project_unsorted(gaussians, views)
    order = depths.argsort(dim=-1, stable=True)
    return Splats(*(_gather(values, order) for values in splats))


def project_unsorted(gaussians: Gaussians, views: Views) -> tuple[Splats, Float[Tensor, "B V N"]]:
    """Splats in the order of the Gaussians, and the depths to sort them by."""
    rotations, translations = views.world_to_camera[..., :3, :3], views.world_to_camera[..., :3, 3]
    finite = torch.stack([t.isfinite().flatten(2).all(-1) for t in _at_least_3d(gaussians)]).all(0)
    means, covariances, opacities, harmonics = (
        torch.where(rearrange(finite, f"b n -> b n {'1 ' * (t.ndim - 2)}"), t, 0)
        for t in (gaussians.means, gaussians.covariance_matrices, gaussians.opacities, gaussians.harmonics)
    )

    # By entries: a matrix product may round equal means differently from row to row, and equal depths are sorted in
    # the order of the Gaussians, which several Gaussians of one pixel often share.
    columns = (rotations[:, :, None, :, j] * means[:, None, :, None, j] for j in range(3))
    camera_means = sum(columns) + translations[:, :, None]
    depths = camera_means[..., 2]
    in_range = finite[:, None] & (depths > views.near[..., None]) & (depths < views.far[..., None])
    # Values that are not rendered are replaced before they can divide by zero: NaN times zero is NaN in a gradient.
    camera_means = torch.where(in_range[..., None], camera_means, camera_means.new_tensor([0.0, 0.0, 1.0]))
    x, y, z = camera_means.unbind(-1)

    fx, fy, cx, cy = (views.intrinsics[..., i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    H, W = views.image_size
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)

    margin_x, margin_y = FRUSTUM_MARGIN * 0.5 * W / fx, FRUSTUM_MARGIN * 0.5 * H / fy
    slope_x = (x / z).clamp(-(cx / fx + margin_x), (W - cx) / fx + margin_x)
    slope_y = (y / z).clamp(-(cy / fy + margin_y), (H - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * slope_x / z], -1),
            torch.stack([zero, fy / z, -fy * slope_y / z], -1),
        ],
        -2,
    )
    to_pixels = jacobian @ rotations[:, :, None]
    covariances2d = to_pixels @ covariances[:, None] @ to_pixels.mT
    sharp = covariances2d[..., 0, 0], covariances2d[..., 0, 1], covariances2d[..., 1, 1]
    xx, xy, yy = sharp[0] + views.dilation, sharp[1], sharp[2] + views.dilation
    determinants = xx * yy - xy * xy
    visible = in_range & (determinants > 0) & (xx > 0)
    determinants = torch.where(visible, determinants, 1)
    conics = torch.stack([yy, -xy, xx], -1) / determinants[..., None]

    camera_centers = -einsum(rotations, translations, "b v i j, b v i -> b v j")
    directions = means[:, None] - camera_centers[:, :, None]
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(means.dtype).tiny)
    basis = spherical_harmonics_basis(directions, gaussians.sh_degree)
    colors = (einsum(harmonics, basis, "b n c k, b v n k -> b v n c") + COLOR_OFFSET).clamp_min(0)

    opacities = torch.where(visible, opacities[:, None], 0)
    if views.antialiased:
        opacities = opacities * _dimming(*sharp, determinants)
    return Splats(means2d, conics, opacities, colors), depths.detach()


def _dimming(
    xx: Float[Tensor, "B V N"], xy: Float[Tensor, "B V N"], yy: Float[Tensor, "B V N"], dilated: Float[Tensor, "B V N"]
) -> Float[Tensor, "B V N"]:
    """√(det Σ / det(Σ + dilation I)), by which antialiased splats of covariance Σ are dimmed; 0 where Σ has no area."""
    ratio = (xx * yy - xy * xy) / dilated
    positive = ratio > 0  # NaN is not
    return torch.where(positive, torch.where(positive, ratio, 1).sqrt(), 0)


def composite(splats: Splats, views: Views) -> Float[Tensor, "B V 3 H W"]:
    """Blend sorted splats front to back over the background."""
    chunks = []
    for pixels in _pixel_chunks(splats, views):
        weights, _, transmittance = blending_weights(splats, pixels)
        foreground = einsum(weights, splats.colors, "b v p n, b v n c -> b v c p")
        chunks.append(foreground + transmittance[..., None, :] * views.background[:, None])
    H, W = views.image_size
    return rearrange(torch.cat(chunks, -1), "b v c (h w) -> b v c h w", h=H, w=W)


def blending_weights(
    splats: Splats, pixels: Float[Tensor, "P 2"]
) -> tuple[Float[Tensor, "B V P N"], Float[Tensor, "B V P N"], Float[Tensor, "B V P"]]:
    """Share of each splat in each pixel's color, its alpha there (0 where not rendered), and what is left over."""
    dx, dy = (pixels[:, None] - splats.means2d[:, :, None]).unbind(-1)
    a, b, c = splats.conics[:, :, None].unbind(-1)
    exponents = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alphas = splats.opacities[:, :, None] * torch.exp(-exponents.clamp_min(0))
    alphas = torch.where(alphas < ALPHA_CAP, alphas, ALPHA_CAP)
    alphas = torch.where((alphas >= ALPHA_SKIP) & (exponents >= 0), alphas, 0)
    log_transmittance = torch.cumsum(torch.log1p(-alphas), -1)
    reached = log_transmittance.exp() >= TRANSMITTANCE_STOP
    alphas = torch.where(reached, alphas, 0)
    # A second sum, because what is not rendered must not dim what is left over for the background.
    log_transmittance = torch.cumsum(torch.log1p(-alphas), -1)
    before = torch.cat([torch.zeros_like(log_transmittance[..., :1]), log_transmittance[..., :-1]], -1)
    left_over = torch.log1p(-alphas).sum(-1).exp()
    return alphas * before.exp(), alphas, left_over


class TorchLinearization:
    """:class:`~diff3r_plugin.render.linearization.Linearization` by ``torch.func``; see there."""

    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        gaussians = gaussians.with_covariances()
        self._gaussians, self._views = gaussians, views
        self._inputs = (*gaussians.tensors(), views.world_to_camera)
        # The graph of the reverse mode is made when the first vjp is asked for: energies alone never need it.
        self._pullback: Callable[[Tensor], tuple[Tensor, ...]] | None = None
        self.image = self._render(*self._inputs)

    def _render(
        self, means: Tensor, covariances: Tensor, opacities: Tensor, harmonics: Tensor, world_to_camera: Tensor
    ) -> Tensor:
        scene = Gaussians(means, covariances, opacities, harmonics)
        return render_image(scene, self._views.replace(world_to_camera=world_to_camera))

    def jvp(self, tangent: Gaussians, world_to_camera: Tensor | None = None) -> Tensor:
        if world_to_camera is None:
            world_to_camera = torch.zeros_like(self._views.world_to_camera)
        return torch.func.jvp(self._render, self._inputs, (*tangent.tensors(), world_to_camera))[1]

    def vjp(self, cotangent: Tensor) -> Gaussians:
        return self.vjp_cameras(cotangent)[0]

    def vjp_cameras(self, cotangent: Tensor) -> tuple[Gaussians, Tensor]:
        if self._pullback is None:
            self._pullback = torch.func.vjp(self._render, *self._inputs)[1]  # type: ignore[assignment]
        means, covariances, opacities, harmonics, world_to_camera = self._pullback(cotangent)  # type: ignore[misc]
        return Gaussians(means, 0.5 * (covariances + covariances.mT), opacities, harmonics), world_to_camera

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Tensor) -> Gaussians:
        return self.vjp(pixel_weights[:, :, None] * self.jvp(tangent))

    def gram(self, pixel_weights: Tensor) -> GaussianGram:
        splats, depths = project_unsorted(self._gaussians, self._views)
        order = depths.argsort(dim=-1, stable=True)
        sorted_gram = splat_gram(Splats(*(_gather(v, order) for v in splats)), self._views, pixel_weights)
        gram2d = _gather(sorted_gram, order.argsort(dim=-1))
        core = self._splat_tangents(_core_directions(self._gaussians))
        rest = self._splat_tangents(_sh_rest_directions(self._gaussians))
        core_gram = einsum(core, gram2d, core, "i b v n s, b v n s t, j b v n t -> b n i j")
        rest_diagonal = einsum(rest[..., 6:] ** 2, gram2d[..., 8, 8], "k b v n c, b v n -> b n c k")
        return GaussianGram(core_gram, rest_diagonal)

    def _splat_tangents(self, directions: Iterator[Gaussians]) -> Float[Tensor, "D B V N 9"]:
        """Change of the nine splat numbers when every Gaussian moves in each direction."""

        def nine_numbers(*tensors: Tensor) -> Tensor:
            splats, _ = project_unsorted(Gaussians(*tensors), self._views)
            return torch.cat([splats.means2d, splats.conics, splats.opacities[..., None], splats.colors], -1)

        scene = self._gaussians.tensors()
        tangents = [torch.func.jvp(nine_numbers, scene, d.tensors())[1] for d in directions]
        B, V, N = *self._views.world_to_camera.shape[:2], self._gaussians.num_gaussians
        return torch.stack(tangents) if tangents else scene[0].new_zeros(0, B, V, N, 9)


def is_available(device: torch.device | str = "cpu", bases: int | None = None) -> bool:
    """True: PyTorch is everywhere."""
    return True


def linearize(gaussians: Gaussians, views: Views) -> TorchLinearization:
    """Linearize the renderings of a scene; see :class:`~diff3r_plugin.render.linearization.Linearization`."""
    return TorchLinearization(gaussians, views)


def splat_gram(splats: Splats, views: Views, pixel_weights: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V N 9 9"]:
    """Σ w g gᵀ over pixels and channels, g = derivative of a pixel by (mean2d 2, conic 3, opacity, color 3)."""
    B, V, N = splats.opacities.shape
    total = splats.conics.new_zeros(B, V, N, 9, 9)
    flat_weights = rearrange(pixel_weights, "b v h w -> b v (h w)")
    start = 0
    for pixels in _pixel_chunks(splats, views):
        weights, alphas, left_over = blending_weights(splats, pixels)
        contributions = einsum(weights, splats.colors, "b v p n, b v n c -> b v p n c")
        in_front = contributions.cumsum(-2)
        total_color = in_front[..., -1:, :] + (left_over[..., None] * views.background)[..., None, :]
        behind = total_color - in_front
        # dI/dalpha: what the splat adds, less what it takes from everything behind it.
        transmittance = torch.where(alphas > 0, weights / alphas.clamp_min(ALPHA_SKIP), 0)
        d_alpha = transmittance[..., None] * splats.colors[:, :, None] - behind / (1 - alphas)[..., None]
        dx, dy = (pixels[:, None] - splats.means2d[:, :, None]).unbind(-1)
        a, b, c = splats.conics[:, :, None].unbind(-1)
        uncapped = torch.where((alphas > 0) & (alphas < ALPHA_CAP), alphas, 0)
        shape = uncapped[..., None] * torch.stack(
            [
                a * dx + b * dy,
                b * dx + c * dy,
                -0.5 * dx * dx,
                -dx * dy,
                -0.5 * dy * dy,
                1 / splats.opacities.clamp_min(ALPHA_SKIP)[:, :, None].expand_as(dx),
            ],
            -1,
        )
        geometry = einsum(d_alpha, shape, "b v p n c, b v p n s -> b v p n c s")
        color = einsum(weights, torch.eye(3).to(weights), "b v p n, c s -> b v p n c s")
        gradients = torch.cat([geometry, color], -1)
        w = flat_weights[..., start : start + len(pixels)]
        total = total + einsum(w, gradients, gradients, "b v p, b v p n c s, b v p n c t -> b v n s t")
        start += len(pixels)
    return total


def _pixel_chunks(splats: Splats, views: Views) -> Iterator[Float[Tensor, "P 2"]]:
    H, W = views.image_size
    like = splats.means2d
    y, x = torch.meshgrid(
        torch.arange(H, dtype=like.dtype, device=like.device) + 0.5,
        torch.arange(W, dtype=like.dtype, device=like.device) + 0.5,
        indexing="ij",
    )
    pairs_per_pixel = max(splats.opacities.numel(), 1)
    return iter(torch.stack([x, y], -1).reshape(-1, 2).split(max(PAIRS_PER_CHUNK // pairs_per_pixel, 1)))


def _gather(values: Tensor, order: Tensor) -> Tensor:
    index = order.reshape(*order.shape, *[1] * (values.ndim - order.ndim)).expand_as(values)
    return values.gather(order.ndim - 1, index)


def _at_least_3d(gaussians: Gaussians) -> list[Tensor]:
    return [t if t.ndim > 2 else t[..., None] for t in gaussians.tensors()]


def _zeros_like(gaussians: Gaussians) -> list[Tensor]:
    return [torch.zeros_like(t) for t in gaussians.tensors()]


def _core_directions(gaussians: Gaussians) -> Iterator[Gaussians]:
    """Unit changes in the 13 core numbers, in the order of :class:`GaussianGram`."""
    for axis in range(3):
        means, *others = _zeros_like(gaussians)
        means[..., axis] = 1
        yield Gaussians(means, *others)
    for i, j in SYMMETRIC_ENTRIES:
        means, covariances, *others = _zeros_like(gaussians)
        covariances[..., i, j] = covariances[..., j, i] = 1
        yield Gaussians(means, covariances, *others)
    means, covariances, opacities, harmonics = _zeros_like(gaussians)
    yield Gaussians(means, covariances, torch.ones_like(opacities), harmonics)
    for channel in range(3):
        means, covariances, opacities, harmonics = _zeros_like(gaussians)
        harmonics[..., channel, 0] = 1
        yield Gaussians(means, covariances, opacities, harmonics)


def _sh_rest_directions(gaussians: Gaussians) -> Iterator[Gaussians]:
    for k in range(1, gaussians.harmonics.shape[-1]):
        means, covariances, opacities, harmonics = _zeros_like(gaussians)
        harmonics[..., k] = 1
        yield Gaussians(means, covariances, opacities, harmonics)
