"""Whether Gaussians lie on the rays through their pixels."""

import math

import pytest
import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.plugin.refining.ray_check import distance_from_pixels, tolerance

H, W, V = 12, 16, 2


def views(shift: float = 0.0) -> Views:
    cameras = torch.eye(4).repeat(1, V, 1, 1)
    cameras[:, 1, 0, 3] = 0.8
    K = torch.tensor([[14.0, 0, W / 2 + shift], [0, 14, H / 2], [0, 0, 1]]).expand(1, V, 3, 3)
    return Views(cameras, K, torch.zeros(1, V, 3, H, W))


def scene(grids, seen: Views) -> Gaussians:
    """Gaussians at random depths along the rays, within half a step of their pixels."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for grid in grids:
        rows, columns = grid.size(H, W)
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1)[None, None, :, :, None]
        pixels = pixels.repeat(1, V, 1, 1, grid.per_pixel, 1)
        pixels[..., :2] += torch.rand(pixels[..., :2].shape, generator=generator) - 0.5
        pixels[..., :2] *= grid.stride
        rays = torch.einsum("bvij,bv...j->bv...i", torch.linalg.inv(seen.intrinsics), pixels)
        depth = 2 + 3 * torch.rand(rays[..., :1].shape, generator=generator)
        means = rays * depth - seen.world_to_camera[:, :, None, None, None, :3, 3]
        parts.append(means.flatten(1, 4))
    means = torch.cat(parts, 1)
    n = means.shape[1]
    return Gaussians(means, torch.eye(3).expand(1, n, 3, 3), torch.ones(1, n), torch.zeros(1, n, 3, 1))


GRIDS = [(PixelGrid(),), (PixelGrid(per_pixel=3),), (PixelGrid(4), PixelGrid(2), PixelGrid())]


@pytest.mark.parametrize("grids", GRIDS, ids=str)
def test_gaussians_on_their_rays_are_near_their_pixels(grids):
    assert distance_from_pixels(scene(grids, views()), views(), grids) < tolerance(views(), grids)


def test_a_principal_point_that_the_decoder_ignores_is_no_difference():
    assert distance_from_pixels(scene(GRIDS[0], views(5.0)), views(), GRIDS[0]) < 1


ORDERS = {"backwards": lambda t: t.flip(1), "any": lambda t: t[:, torch.randperm(t.shape[1])]}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_gaussians_in_another_order_are_not(order):
    torch.manual_seed(0)
    moved = scene(GRIDS[0], views()).map(order)
    assert distance_from_pixels(moved, views(), GRIDS[0]) > tolerance(views(), GRIDS[0])


def test_a_scene_that_is_broken_or_behind_the_cameras_says_nothing():
    assert math.isnan(distance_from_pixels(scene(GRIDS[0], views()).map(lambda t: -t), views(), GRIDS[0]))
    broken = scene(GRIDS[0], views()).map(lambda t: t * math.nan)
    assert math.isnan(distance_from_pixels(broken, views(), GRIDS[0]))
