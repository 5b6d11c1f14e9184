"""What fits into memory, and which setting makes it fit."""

import pytest
import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.io import PosedImages
from diff3r_plugin.memory import refinement_bytes
from diff3r_plugin.refine import RefineError, RefineSettings
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.plan import make_plan

GIB = 1 << 30


def inputs(count: int, views: int, size: tuple[int, int]) -> Inputs:
    scene = Gaussians(
        torch.zeros(1, count, 3), torch.eye(3).expand(1, count, 3, 3), torch.ones(1, count), torch.zeros(1, count, 3, 4)
    )
    pose = torch.eye(4).expand(views, 4, 4)
    images = PosedImages("p", ("",) * views, (b"",) * views, pose, pose[:, :3, :3], (size,) * views)
    return Inputs(scene, images, images.subset([]), size)


def settings(tmp_path, memory: float) -> RefineSettings:
    return RefineSettings(None, "p", tmp_path, memory_gib=memory)


def cure(tmp_path, memory: float, count: int, size: tuple[int, int]) -> str:
    with pytest.raises(RefineError) as caught:
        make_plan(inputs(count, 16, size), settings(tmp_path, memory), 1)
    return str(caught.value)


def test_fewer_views_are_named_where_they_fit(tmp_path):
    message = cure(tmp_path, 1.0, 10_000, (1024, 1024))
    assert "8 images of 1024 x 1024" in message and "1.00 GiB may be used" in message
    named = int(message.split("--views-per-round ")[1].split()[0])
    assert (
        refinement_bytes(10_000, 22, named, (1024, 1024)) <= GIB < refinement_bytes(10_000, 22, named + 1, (1024, 1024))
    )


def test_smaller_images_are_named_where_one_view_is_too_much(tmp_path):
    assert "--views-per-round 1 --downscale 2" in cure(tmp_path, 0.5, 1000, (2048, 2048))


def test_scenes_that_no_such_setting_makes_fit_are_told_so(tmp_path):
    assert "give a scene of fewer Gaussians" in cure(tmp_path, 0.5, 1_000_000, (64, 64))


def test_what_fits_is_planned(tmp_path):
    plan = make_plan(inputs(1000, 10, (64, 64)), settings(tmp_path, 1.0), 7)
    assert (plan.rounds, plan.views_per_round) == (7, 5)
    assert plan.needed <= plan.limit == GIB
