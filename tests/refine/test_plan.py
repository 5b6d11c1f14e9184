"""What fits into memory, and which setting makes it fit."""

from dataclasses import replace

import pytest
import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.io import PosedImages
from diff3r_plugin.memory import refinement_bytes
from diff3r_plugin.refine import RefineError, RefineSettings
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.plan import Plan, make_plan
from diff3r_plugin.refine.rounds import make_schedule

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


def planned(tmp_path, memory: float, given: Inputs, **more) -> Plan:
    asked = replace(settings(tmp_path, memory), **more)
    return make_plan(given, asked, make_schedule(asked, given.scene, len(given.context), given.size, False))


def cure(tmp_path, memory: float, count: int, size: tuple[int, int]) -> str:
    with pytest.raises(RefineError) as caught:
        planned(tmp_path, memory, inputs(count, 16, size))
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
    plan = planned(tmp_path, 1.0, inputs(1000, 10, (64, 64)), rounds=7, validation=0)
    assert (plan.schedule.rounds, plan.views_per_round) == (7, 5)
    assert plan.needed <= plan.limit == GIB


def test_a_scene_that_grows_by_itself_grows_to_what_fits(tmp_path):
    given = inputs(1000, 16, (512, 512))
    asked = settings(tmp_path, 1.0)
    schedule = make_schedule(asked, given.scene, 16, given.size, from_points=True)
    plan = make_plan(given, asked, schedule)
    assert 1000 < plan.schedule.gaussians <= schedule.gaussians
    assert plan.needed <= plan.limit
    little = make_plan(given, replace(asked, memory_gib=0.5), schedule)
    assert 1000 < little.schedule.gaussians < plan.schedule.gaussians and little.needed <= little.limit


def test_a_scene_that_was_told_how_far_to_grow_has_to_fit(tmp_path):
    with pytest.raises(RefineError, match=r"Refining 5000000 Gaussians .* \(or a smaller --max-gaussians\)"):
        planned(tmp_path, 1.0, inputs(1000, 16, (64, 64)), max_gaussians=5_000_000)
