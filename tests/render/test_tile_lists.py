"""The lists of tiles by the kernels are those of the obvious loop."""

import gsplat_on_cpu
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.kernels.loading.kernel_table import DeviceScene
from diff3r_plugin.kernels.loading.library_cuda import Queue
from diff3r_plugin.kernels.loading.structures import Inputs
from diff3r_plugin.render.semantics import ALPHA_SKIP
from diff3r_plugin.render.tile_lists import tile_lists

pytestmark = pytest.mark.skipif(gsplat_on_cpu.library() is None, reason="no g++ here for the GPU kernels on a CPU")


def lists(means, radii, depths, across, down, conics, opacities):
    """Offsets and splats by the kernels, and the tile of each splat in its list."""
    given = {"means2d": means, "conics": conics, "splat_opacities": opacities, "depths": depths}
    given = {name: value.double().contiguous() for name, value in given.items()} | {"radii": radii.contiguous()}
    images, count = depths.shape
    inputs = Inputs(batch=images, views=1, gaussians=count, bases=1, height=16 * down, width=16 * across)
    scene = DeviceScene(inputs=inputs, **{name: value.data_ptr() for name, value in given.items()})
    kernels, queue = gsplat_on_cpu.kernels(torch.float64), Queue(0, 0)
    offsets, splats = tile_lists(
        lambda name, *arguments: kernels.launch(name, queue, *arguments), scene, given["depths"], down, across
    )
    ends = torch.cat([offsets.flatten()[1:], torch.tensor([len(splats)], dtype=torch.int32)])
    tiles = torch.arange(images * across * down).repeat_interleave(ends - offsets.flatten())
    assert splats.dtype == offsets.dtype == torch.int32
    return offsets, splats, tiles


def ellipses(generator, images, count):
    """Conics of splats between round ones and needles, with opacities from nothing to one."""
    factor = torch.randn(images, count, 2, 2, generator=generator, dtype=torch.float64)
    spread = 6 * factor @ torch.diag(torch.tensor([4.0, 0.1], dtype=torch.float64)) @ factor.mT + 0.3 * torch.eye(2)
    inverse = torch.linalg.inv(spread)
    conics = torch.stack([inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 1]], -1)
    return conics, torch.rand(images, count, generator=generator, dtype=torch.float64)


def shown(mean, conic, opacity, tile, across):
    """Whether a splat's alpha is not skipped at any pixel of a tile."""
    x = 16 * (tile % across) + torch.arange(16) + 0.5 - mean[0]
    y = (16 * (tile // across) + torch.arange(16) + 0.5 - mean[1])[:, None]
    a, b, c = conic
    return bool((opacity * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y) >= ALPHA_SKIP).any())


@settings(max_examples=30, deadline=None)
@given(
    images=st.integers(1, 3),
    count=st.integers(0, 20),
    across=st.integers(1, 4),
    down=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_lists_are_those_of_the_loop(images, count, across, down, seed):
    generator = torch.Generator().manual_seed(seed)
    means = 90 * torch.rand(images, count, 2, generator=generator) - 10
    radii = torch.randint(0, 40, (images, count, 2), generator=generator, dtype=torch.int32)
    everywhere = torch.full((images, count, 3), 1e-9), torch.ones(images, count)
    depths = torch.randint(1, 6, (images, count), generator=generator).float()  # many are equal
    offsets, splats, tiles = lists(means, radii, depths, across, down, *everywhere)
    _, expected_tiles, expected_splats = gsplat_on_cpu._isect_tiles(means, radii, depths, 16, across, down)
    assert torch.equal(tiles, expected_tiles) and torch.equal(splats, expected_splats)
    assert torch.equal(offsets, gsplat_on_cpu._isect_offset_encode(tiles, images, across, down))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_every_tile_where_a_splat_shows_is_listed(seed):
    generator = torch.Generator().manual_seed(seed)
    across, down, count = 4, 3, 12
    means = 80 * torch.rand(1, count, 2, generator=generator, dtype=torch.float64) - 8
    conics, opacities = ellipses(generator, 1, count)
    boxes = torch.full((1, count, 2), 200, dtype=torch.int32)
    _, splats, tiles = lists(means, boxes, torch.ones(1, count), across, down, conics, opacities)
    listed = set(zip(splats.tolist(), tiles.tolist(), strict=True))
    for n in range(count):
        for tile in range(across * down):
            if shown(means[0, n], conics[0, n], opacities[0, n], tile, across):
                assert (n, tile) in listed


def test_few_tiles_are_listed_where_a_splat_does_not_show():
    """A box is all that the lists knew before; a needle across it shows in few of its tiles."""
    generator = torch.Generator().manual_seed(0)
    across, down, count = 8, 8, 60
    means = 128 * torch.rand(1, count, 2, generator=generator, dtype=torch.float64)
    conics, opacities = ellipses(generator, 1, count)
    variances = torch.stack([conics[..., 2], conics[..., 0]], -1) / (
        conics[..., 0] * conics[..., 2] - conics[..., 1] ** 2
    ).unsqueeze(-1)
    reach = 2 * (opacities / ALPHA_SKIP).log().clamp_min(0)
    boxes = (reach[..., None] * variances).sqrt().ceil().int()
    _, _, tiles = lists(means, boxes, torch.ones(1, count), across, down, conics, opacities)
    _, under_boxes, _ = gsplat_on_cpu._isect_tiles(means, boxes, torch.ones(1, count), 16, across, down)
    needed = sum(
        shown(means[0, n], conics[0, n], opacities[0, n], tile, across)
        for n in range(count)
        for tile in range(across * down)
    )
    assert needed <= len(tiles) <= 1.015 * needed, "the exact ellipse, but for pixels between centers"
    assert len(tiles) < 0.8 * len(under_boxes)
