"""The data's cameras in the frame of a prediction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diff3r_plugin import Views
from diff3r_plugin.training.similarity import in_frame_of


def cameras(views: int, generator: torch.Generator, scenes: int = 2):
    turn = torch.randn(scenes, views, 3, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(scenes, views, 1, 1)
    poses[..., :3, :3] = torch.linalg.matrix_exp(turn - turn.mT)
    poses[..., :3, 3] = torch.randn(scenes, views, 3, generator=generator, dtype=torch.float64)
    return poses


def moved(poses, scale, generator):
    """The same cameras after the world was turned, scaled and shifted."""
    world = cameras(1, generator, len(poses))
    placed = poses @ torch.linalg.inv(world)
    placed[..., :3, 3] *= scale
    return placed


@given(st.integers(0, 1000), st.floats(0.05, 20.0), st.integers(2, 5))
def test_a_similarity_between_the_frames_is_undone(seed, scale, views):
    generator = torch.Generator().manual_seed(seed)
    here = cameras(views + 2, generator)
    there = moved(here, scale, generator)
    others = Views(here[:, views:], torch.eye(3).double().expand(2, 2, 3, 3), near=0.5, far=9.0, image_size=(4, 4))
    placed = in_frame_of(there[:, :views], here[:, :views], others)
    torch.testing.assert_close(placed.world_to_camera, there[:, views:], atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(placed.near, torch.full_like(placed.near, 0.5 * scale))
    torch.testing.assert_close(placed.far, torch.full_like(placed.far, 9.0 * scale))


def test_without_a_baseline_the_scale_stays():
    generator = torch.Generator().manual_seed(0)
    here = cameras(3, generator)
    here[:, :2] = here[:, :1]
    others = Views(here[:, 2:], torch.eye(3).double().expand(2, 1, 3, 3), image_size=(4, 4))
    placed = in_frame_of(here[:, :2], here[:, :2], others)
    torch.testing.assert_close(placed.world_to_camera, here[:, 2:])


@pytest.mark.parametrize("noise", [0.01])
def test_cameras_that_disagree_give_proper_rotations(noise):
    generator = torch.Generator().manual_seed(1)
    here = cameras(4, generator)
    there = moved(here, 2.0, generator)
    there[..., :3, 3] += noise * torch.randn(there[..., :3, 3].shape, generator=generator, dtype=torch.float64)
    others = Views(here[:, 3:], torch.eye(3).double().expand(2, 1, 3, 3), image_size=(4, 4))
    rotation = in_frame_of(there[:, :3], here[:, :3], others).world_to_camera[..., :3, :3]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2, 1).double())
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(2, 1, 3, 3))
