"""An interrupted refinement ends as an uninterrupted one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import refine_files
import torch

from diff3r_plugin.io import read_npz
from diff3r_plugin.refine import RefineError, RefineResult, RefineSettings, refine


@pytest.fixture
def settings(tmp_path) -> RefineSettings:
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    return RefineSettings(
        scene, str(cameras), tmp_path / "whole", hold_out="every:3", views_per_round=2, rounds=3, pictures=0
    )


def same(a: RefineResult, b: RefineResult) -> bool:
    """To the last bit."""
    scores = [{key: result.metrics[key] for key in ("before", "after", "views")} for result in (a, b)]
    energies = [[entry["energy_after"] for entry in result.metrics["rounds"]] for result in (a, b)]
    tensors = zip(a.scene.tensors(), b.scene.tensors(), strict=True)
    return scores[0] == scores[1] and energies[0] == energies[1] and all(torch.equal(x, y) for x, y in tensors)


class Died(BaseException):
    """Like a kill: nothing in the package catches it."""


def test_stopped_at_any_write_it_goes_on_to_the_same_scores(settings, monkeypatch):
    """Each file gets its name by one move: the process dies before each of them in turn."""
    whole, replace_file = refine(settings), os.replace
    moves = 0

    def count(scratch, place):
        nonlocal moves
        moves += 1
        replace_file(scratch, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", count)
        refine(replace(settings, out=settings.out.with_name("counted")))
    assert moves == 3 * 2 + 3  # a scene and a record a round; then PLY, .npz and metrics
    for last in (0, 1, 2, 3, moves - 1):
        stopped = replace(settings, out=settings.out.with_name(f"stopped_{last}"))
        left = last

        def die(scratch, place):
            nonlocal left
            if not left:
                raise Died
            left -= 1
            replace_file(scratch, place)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", die)
            with pytest.raises(Died):
                refine(stopped)
        assert same(refine(stopped, resume=True), whole)


def test_killed_at_a_random_moment_it_goes_on_to_the_same_scores(settings):
    """By the command line, with SIGKILL (takes some seconds: a process of its own)."""
    whole = refine(replace(settings, rounds=16, out=settings.out.with_name("whole_16")))
    command = [sys.executable, "-m", "diff3r_plugin.cli", "refine", str(settings.scene), "--cameras", settings.cameras]
    command += ["--hold-out", "every:3", "--views-per-round", "2", "--rounds", "16", "--out", str(settings.out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    state = settings.out / "checkpoint" / "state.json"
    end = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(random.random() * 0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists(), "it had begun"
    resumed = refine(replace(settings, rounds=16), resume=True)
    assert same(resumed, whole)


def test_a_finished_run_can_go_on_for_more_rounds(settings):
    refine(replace(settings, rounds=2))
    longer = refine(settings, resume=True)
    assert same(longer, refine(replace(settings, out=settings.out.with_name("at_once"))))


def test_resuming_starts_where_nothing_is(settings):
    assert refine(settings, resume=True).metrics["after"]["context"]["psnr"] > 10


def test_a_run_is_not_overwritten_nor_mixed_with_another(settings):
    refine(settings)
    with pytest.raises(RefineError, match="give --resume to continue it, or another --out"):
        refine(settings)
    with pytest.raises(RefineError, match=r"has seed=0, this one 3. Resume with the same"):
        refine(replace(settings, seed=3), resume=True)
    (settings.out / "checkpoint" / "state.json").write_text("{}")
    with pytest.raises(RefineError, match="is damaged; remove"):
        refine(settings, resume=True)


def test_checkpoints_do_not_pile_up(settings):
    refine(settings)
    files = sorted(path.name for path in (settings.out / "checkpoint").iterdir())
    assert files == ["round_00003.npz", "state.json"]
    assert read_npz(settings.out / "checkpoint" / files[0]).num_gaussians == 60
