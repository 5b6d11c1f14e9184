"""The alphas that the native backend keeps: room for them comes in chunks, and what found none is rendered again."""

import pytest
import torch
from scenes import inner, random_tangent

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import native_backend, torch_backend

pytestmark = pytest.mark.skipif(not native_backend.is_available(), reason="no compiler here")


def faint_scene(gaussians: int, width: int) -> tuple[Gaussians, Views]:
    """Wide splats at the edge of visibility: a ray goes on through 2,000 of them, and every block takes each."""
    generator = torch.Generator().manual_seed(0)
    depths = 4 + torch.rand(1, gaussians, 1, generator=generator, dtype=torch.float64)
    means = torch.cat([0.1 * torch.randn(1, gaussians, 2, generator=generator, dtype=torch.float64), depths], dim=-1)
    scene = Gaussians(
        means=means,
        covariances=100 * torch.eye(3, dtype=torch.float64).expand(1, gaussians, 3, 3),
        opacities=torch.full((1, gaussians), 0.004, dtype=torch.float64),
        harmonics=torch.randn(1, gaussians, 3, 1, generator=generator, dtype=torch.float64),
    )
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, width / 16, 0.5], [0, 0, 1]], dtype=torch.float64)
    images = torch.rand(1, 1, 3, 16, width, generator=generator, dtype=torch.float64)
    return scene, Views(torch.eye(4, dtype=torch.float64)[None, None], intrinsics[None, None], images)


@pytest.mark.parametrize(
    ("gaussians", "width"),
    [(2300, 16), (1200, 48)],
    ids=["one tile fills more than a chunk", "a tile is moved to a new chunk halfway"],
)
def test_products_agree_with_the_oracle_whatever_room_there_is(gaussians, width):
    scene, views = faint_scene(gaussians, width)
    ours, oracle = native_backend.linearize(scene, views), torch_backend.linearize(scene, views)
    tangent, cotangent = random_tangent(scene), torch.randn_like(views.images)
    weights = torch.rand_like(views.images[:, :, 0])
    torch.testing.assert_close(ours.image, oracle.image, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.jvp(tangent), oracle.jvp(tangent), rtol=1e-8, atol=1e-8)
    for name, a, b in zip(
        ("means", "covariances", "opacities", "harmonics"),
        ours.vjp(cotangent).tensors(),
        oracle.vjp(cotangent).tensors(),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()), msg=name)
    product = ours.gauss_newton_product(tangent, weights)
    moved = ours.jvp(tangent)
    torch.testing.assert_close(inner(tangent, product), (moved * weights[:, :, None] * moved).sum())


def test_a_tile_without_room_is_not_counted_as_held():
    """Past a chunk a tile's alphas are made again by each product: the linearization stays small."""
    held = native_backend.linearize(*faint_scene(1200, 16)).bytes
    made_again = native_backend.linearize(*faint_scene(2300, 16)).bytes
    assert held > 2.2e6  # 1,200 splats, 32 blocks of 8 numbers of 8 bytes
    assert made_again < 1.2 * held + 4.4e6
