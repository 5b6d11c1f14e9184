"""The lists of tiles by PyTorch are those of the obvious loop."""

import gsplat_on_cpu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.render.tile_lists import isect_offset_encode, isect_tiles


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
    depths = torch.randint(1, 6, (images, count), generator=generator).float()  # many are equal
    _, tiles, splats = isect_tiles(means, radii, depths, 16, across, down)
    _, expected_tiles, expected_splats = gsplat_on_cpu._isect_tiles(means, radii, depths, 16, across, down)
    assert torch.equal(tiles, expected_tiles) and torch.equal(splats, expected_splats)
    assert splats.dtype == torch.int32
    offsets = isect_offset_encode(tiles, images, across, down)
    assert torch.equal(offsets, gsplat_on_cpu._isect_offset_encode(tiles, images, across, down))
