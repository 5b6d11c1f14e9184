"""The study's own arithmetic and book-keeping: errors, resuming, choices of views, tables."""

import json

import pytest
import torch
from scenes import random_scene

from benchmarks.study.__main__ import command_line
from benchmarks.study.ceilings import at_depth
from benchmarks.study.corrupted import kinds_of, oracle
from benchmarks.study.costs import cost_table
from benchmarks.study.report import (
    ceilings_table,
    outlier_table,
    overfit_table,
    real_table,
    replaced,
    training_table,
    write_report,
)
from benchmarks.study.results_file import ResultsFile
from benchmarks.study.settings import StudySettings
from benchmarks.study.summary import Summary
from benchmarks.study.trainings import with_more_views
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.evaluation import SavedScene


def test_errors_over_rooms_and_over_seeds_are_kept_apart():
    same_rooms_other_seeds = Summary.of({1: [1.0, 1.0, 1.0], 2: [3.0, 3.0, 3.0]})
    assert (same_rooms_other_seeds.over_rooms, same_rooms_other_seeds.over_seeds) == (0.0, 1.0)
    other_rooms_same_seeds = Summary.of({1: [1.0, 3.0], 2: [1.0, 3.0]})
    assert (other_rooms_same_seeds.over_rooms, other_rooms_same_seeds.over_seeds) == (1.0, 0.0)
    assert other_rooms_same_seeds.text(sign=True) == "+2.00 ± 1.00 ± 0.00"
    assert Summary.of({1: [1.0, 3.0]}).text() == "2.00 ± 1.00", "one seed says nothing of its scatter"


def test_differences_are_paired_by_seed_and_room():
    first, second = {"1": [5.0, 50.0], "2": [6.0, 60.0]}, {"1": [4.0, 49.0], "2": [5.0, 59.0], "3": [0.0, 0.0]}
    found = Summary.difference(first, second)
    assert (found.mean, found.over_rooms, found.over_seeds, found.seeds) == (1.0, 0.0, 0.0, 2)


def test_seeds_must_have_the_same_rooms():
    with pytest.raises(ValueError, match=r"\[2, 1\]"):
        Summary.of({1: [1.0, 2.0], 2: [1.0]})
    with pytest.raises(ValueError):
        Summary.of({})


def test_a_run_that_was_stopped_goes_on(tmp_path):
    made = []

    def make(name):
        made.append(name)
        return {"value": (1, float("nan"))}

    for _ in range(2):
        file = ResultsFile(tmp_path / "r.json", {"steps": 3, "seeds": (1, 2)})
        assert file.unit("a", lambda: make("a")) == {"value": [1, None]}
    assert made == ["a"]
    ResultsFile(tmp_path / "r.json", {"steps": 4, "seeds": (1, 2)}).unit("a", lambda: make("a"))
    assert made == ["a", "a"], "units of other settings do not count"


def test_further_context_views_lie_between_and_are_no_targets():
    views = with_more_views({"context": [2, 11], "target": [5, 6, 8]}, 4)
    assert views["context"][0] == 2 and views["context"][-1] == 11 and len(set(views["context"])) == 4
    assert views["context"] == sorted(views["context"]) and not set(views["context"]) & set(views["target"])
    with pytest.raises(ValueError, match="No 4 context views fit between frames 0 and 3"):
        with_more_views({"context": [0, 3], "target": [1]}, 4)


def test_the_oracle_leaves_out_what_was_corrupted_and_nothing_else(tmp_path):
    options = DataOptions(train=0, val=0, test=4, frames=6, size=16, supersample=1, outlier_share=0.5)
    make_data(tmp_path, options, workers=1, progress=False)
    place = TestData.rooms(tmp_path, "test")
    index, kinds = json.loads(place.index.read_text()), kinds_of(tmp_path, "test")
    notes = json.loads((tmp_path / "outliers_test.json").read_text())
    known = oracle(place)
    views = Views(torch.eye(4).expand(1, 2, 4, 4), torch.eye(3).expand(1, 2, 3, 3), torch.rand(1, 2, 3, 16, 16))
    gaussians = Gaussians(
        torch.zeros(1, 1, 3), torch.eye(3).expand(1, 1, 3, 3), torch.ones(1, 1), torch.zeros(1, 1, 3, 1)
    )
    assert set(kinds.values()) == {"exposure", "blur", "occluder", "pose"}
    for name, kind in kinds.items():
        weights = known(SavedScene(name, gaussians, views, views))
        (frame,) = map(int, notes[name])
        bad = index[name]["context"].index(frame)
        assert (weights[0, 1 - bad] == 1).all()
        share = 1 - weights[0, bad].mean()
        assert 0 < share < 0.5 if kind == "occluder" else share == 1


def test_a_recorded_command_names_no_folder_of_the_machine():
    words = ["real", "--out", "/o", "--seeds", "1", "2", "--data", "fox=/d/fox", "--data", "a=b", "--checkpoint", "/c"]
    assert command_line(words) == "python -m benchmarks.study real --seeds 1 2 --data fox=ROOT --data a=ROOT"


def test_settings_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match=r"benchmarks\.pretrain OUT"):
        StudySettings(tmp_path, tmp_path / "none.ckpt")
    (tmp_path / "some.ckpt").touch()
    for change, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"test_rooms": 1}, "needs 2 test rooms"),
        ({"seeds": ()}, "0 seeds"),
        ({"context_views": 1}, "context_views must be at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            StudySettings(tmp_path, tmp_path / "some.ckpt", **change)


SETTINGS = {
    "seeds": [1, 2],
    "steps": 5,
    "rooms_seed": 9,
    "context_views": 2,
    "grid_scales": [1.0],
    "overfit_steps": [0, 4],
}
SHARED = {
    "settings": SETTINGS,
    "command": "python -m benchmarks.study X",
    "date": "2026-01-01",
    "machine": {"commit": "c"},
    "experiment": "finetune",
}


def unit(before, after, **more):
    scores = {"psnr_before": before, "psnr_after": after, "psnr_context_after": after}
    return {"rooms": ["r1", "r2"], "scores": scores, "oracle": scores, "clean": scores, "seconds": 7.0, **more}


def trainings(plain="plain", other="implicit"):
    return {
        "start": unit([20.0, 22.0], [21.0, 23.0]),
        f"{plain}, seed 1": unit([20.0, 22.0], [22.0, 24.0]),
        f"{other}, seed 1": unit([19.0, 21.0], [23.0, 25.0]),
        f"{plain}, seed 2": unit([20.0, 22.0], [22.0, 24.0]),
        f"{other}, seed 2": unit([19.0, 21.0], [25.0, 27.0]),
    }


def test_training_table_pairs_with_plain_fine_tuning():
    table = training_table({**SHARED, "units": trainings()})
    assert (
        "| Diff3R, implicit gradient | 7 | 20.00 ± 1.00 ± 0.00 | 25.00 ± 1.00 ± 1.00 | +2.00 ± 0.00 ± 1.00 | -1.00"
        in table
    )
    assert "* Diff3R, implicit gradient, after TTO: +3.00 ± 0.00 ± 1.00 over the pretrained host without" in table
    assert "over 2 test rooms" in table and "over 2 seeds" in table


def test_training_table_compares_with_plain_trainings_of_as_many_seconds():
    units = {
        "start": unit([1.0, 2.0], [1.0, 2.0]),
        "plain, seed 1": unit([2.0, 3.0], [2.0, 3.0]),
        "eight_steps, seed 1": unit([4.0, 5.0], [4.0, 5.0]),
        "two_steps, seed 1": unit([3.0, 4.0], [3.0, 4.0]),
        "plain_as_long_as_eight_steps, seed 1": unit([2.5, 3.5], [2.5, 3.5]),
    }
    table = training_table({**SHARED, "units": units})
    assert "| plain, as many seconds as: Diff3R, implicit, eight inner steps | 7 |" in table
    assert "* Diff3R, implicit, eight inner steps, after TTO: +1.50 ± 0.00 over plain fine-tuning of as many" in table
    assert "* Diff3R, implicit, two inner steps, after TTO: +2.00 ± 0.00 over the pretrained host" in table


def test_outlier_table_separates_kinds():
    units = trainings("corrupted_plain", "corrupted_learned")
    table = outlier_table({**SHARED, "units": units, "kinds": {"r1": "blur", "r2": "pose"}})
    assert "| training | blur | pose | mean | clean rooms |" in table
    assert "| Diff3R, w learned | 24.00 ± 1.00 | 26.00 ± 1.00 | 25.00 ± 1.00 ± 1.00 | 25.00 ± 1.00 ± 1.00 |" in table
    assert "w learned, w known |" in table
    assert "| Diff3R, w learned | +2.00 ± 1.00 | +2.00 ± 1.00 | +2.00 ± 0.00 ± 1.00 | +2.00 ± 0.00 ± 1.00 |" in table
    assert "| plain fine-tuning, w known | +0.00" in table


def test_real_table_has_a_row_for_every_data_set_and_training():
    units = {f"fox, {name}": u for name, u in trainings().items() if name != "start"}
    table = real_table({**SHARED, "units": units})
    assert table.count("| fox |") == 2 and "+2.00 ± 0.00 ± 1.00" in table


def test_a_data_set_of_several_scenes_counts_each_scene_once():
    windows = {
        "rooms": ["a_00", "a_01", "b_00"],
        "scores": {"psnr_before": [1.0, 3.0, 5.0], "psnr_after": [1.0, 3.0, 5.0]},
    }
    table = real_table({**SHARED, "units": {"six, plain, seed 1": windows}})
    assert "| six | plain fine-tuning | 3.50 ± 1.50 | 3.50 ± 1.50 |" in table


def test_overfit_table_has_a_row_for_every_number_of_steps():
    rows = {f"weights x 1, {n} steps": unit([1.0, 2.0], [3.0 + n, 4.0 + n])["scores"] for n in (0, 4)}
    table = overfit_table({**SHARED, "rows": rows, "rooms": ["r1", "r2"]})
    assert "| 4 | 7.50 ± 0.50 | 7.50 ± 0.50 |" in table


def test_ceilings_table_compares_with_the_same_weights_everywhere():
    rows = {"no refinement": [20.0, 22.0], "the same weights everywhere": [21.0, 23.0], "true depths": [24.0, 27.0]}
    table = ceilings_table({**SHARED, "rows": rows, "rooms": ["r1", "r2"]})
    assert "| no refinement | 21.00 ± 1.00 | -1.00 ± 0.00 |" in table
    assert "| true depths | 25.50 ± 1.50 | +3.50 ± 0.50 |" in table


def test_cost_table_compares_within_the_turns():
    def turns(*pairs):
        return [{"seconds_per_step": seconds, "peak_mib": peak} for seconds, peak in pairs]

    rows = {"plain": turns((1.0, 100.0), (2.0, 110.0)), "implicit": turns((3.0, 150.0), (4.0, 150.0))}
    table = cost_table({**SHARED, "rows": rows})
    assert "| plain | 1.500 |  | 105 |  |" in table
    assert "| implicit | 3.500 | 2.5 | 150 | 45 |" in table, "median of 3 and 2, of 50 and 40"


def test_gaussians_move_along_their_rays_and_grow_with_depth():
    scene, views = random_scene(gaussians=2 * 4 * 4, views=2, size=(4, 4))
    depths = torch.rand(2, 4, 4) + 1
    moved = at_depth(scene, views, depths)
    for v in range(2):
        one = slice(16 * v, 16 * v + 16)
        R, t = views.world_to_camera[0, v, :3, :3], views.world_to_camera[0, v, :3, 3]
        before, after = (g.means[0, one] @ R.T + t for g in (scene, moved))
        torch.testing.assert_close(after[:, 2], depths[v].flatten().double())
        torch.testing.assert_close(after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:])
    ratio = torch.linalg.det(moved.covariances) / torch.linalg.det(scene.covariances)
    assert (ratio > 0).all() and ratio.std() > 0


def test_the_page_is_replaced_between_its_markers_alone(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    (results / "study_finetune.json").write_text(json.dumps({**SHARED, "experiment": "finetune", "units": trainings()}))
    page = docs / "research" / "results.md"
    page.parent.mkdir()
    markers = "".join(f"<!-- study: {n} -->\nold\n<!-- end of study: {n} -->\n" for n in ("pretrained", "finetune"))
    page.write_text(f"above\n{markers}below\n")
    point = {"psnr": 25.0, "ssim": 0.8, "depth_error": 0.051}
    record = {
        **{"command": "python -m benchmarks.pretrain OUT", "date": "2026-01-01", "parameters": 9, "bytes": 18},
        **{"machine": {"cores": 2, "processor": "P"}, "validation_curve": [{"step": n, **point} for n in range(1, 21)]},
    }
    (tmp_path / "host.json").write_text(json.dumps(record))
    for _ in range(2):
        write_report(results, docs, tmp_path / "host.json")
        assert "| steps | 1 | 4 | 6 | 9 | 12 | 15 | 17 | 20 |" in page.read_text() and "5.1 %" in page.read_text()
        text = page.read_text()
        assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text and "commit c" in text
    with pytest.raises(ValueError, match="lacks the lines <!-- study: overfit"):
        replaced(text, "overfit", "new")
