"""The study on captured scenes: its windows, its choices, its tables."""

import json

import pytest
import torch
from scenes import refinable_scene

from benchmarks.captured.roots import CapturedOptions, write_split
from benchmarks.study.captured import customary_scores
from benchmarks.study.captured_outliers import by_scene
from benchmarks.study.captured_report import best_customary, best_refinement, captured_table, refinements
from benchmarks.study.captured_trainings import VALIDATION, CapturedStudy, CapturedTrainings, by_turns
from benchmarks.study.ceilings import captured_ceilings
from benchmarks.study.corrupted import kinds_of
from benchmarks.study.report import outlier_table
from benchmarks.study.settings import StudySettings
from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.data.re10k_format import read_split
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.optimize import CustomaryTTO


@pytest.fixture(scope="module")
def scenes_root(tmp_path_factory):
    """Three scenes of eight frames in ``train`` and, as windows of five, in ``test``."""
    made = tmp_path_factory.mktemp("made")
    make_data(made, DataOptions(train=3, val=0, test=0, frames=8, size=24, supersample=1), workers=1, progress=False)
    root, index, cut = tmp_path_factory.mktemp("root"), {}, []
    whole = [{**s, "key": k} for k, s in zip("abc", read_split(made / "train").values(), strict=True)]
    for scene in whole:
        for number, start in enumerate((0, 3)):
            key, frames = f"{scene['key']}_{number:02d}", slice(start, start + 5)
            cut.append({**scene, "key": key, **{n: scene[n][frames] for n in ("cameras", "images", "timestamps")}})
            index[key] = {"context": [0, 4], "target": [1, 2, 3]}
    write_split(root / "train", whole)
    write_split(root / "test", cut)
    (root / "evaluation_index.json").write_text(json.dumps(index))
    return root


def trainings(tmp_path, root, **options):
    checkpoint = tmp_path / "weights.ckpt"
    checkpoint.touch()
    data = CapturedOptions({"all": root}, without=("b", "c"), variants=1, size=16)
    study = CapturedStudy(data, {"held": held_back(tmp_path, root)}, **options)
    return CapturedTrainings(StudySettings(tmp_path / "out", checkpoint), study, print)


def held_back(tmp_path, root):
    """A data root of its own, so that no window is called alike."""
    other = tmp_path / "held"
    if not other.is_dir():
        records = [{**r, "key": f"held{k}"} for k, r in read_split(root / "test").items()]
        write_split(other / "test", records)
        index = {r["key"]: {"context": [0, 4], "target": [1, 2, 3]} for r in records}
        (other / "evaluation_index.json").write_text(json.dumps(index))
    return other


def test_windows_that_choose_are_of_the_scenes_kept_out_of_training(tmp_path, scenes_root):
    made = trainings(tmp_path, scenes_root)
    labels = made._labels
    assert {w for w, label in labels.items() if label == VALIDATION} == {"b_00", "b_01", "c_00", "c_01"}
    assert {w for w, label in labels.items() if label == "held"} == {f"held{s}_0{k}" for s in "abc" for k in (0, 1)}
    assert all(name.startswith("all_a_") for name in read_split(made.root() / "train"))
    corrupted = made.corrupted_place
    names = json.loads(corrupted.index.read_text())
    assert len(names) == (2 + 6) * 4, "of scenes that choose one window each, once for each kind"
    assert read_split(corrupted.root / "test")["pose_b_00"]["clean"]["masks"].shape == (1, 16, 16)
    assert len(kinds_of(corrupted.root, "test")) == len(names)
    words = made.training_arguments(tmp_path, made.root(), 1, 7)
    assert "trainer.limit_val_batches=0" in words, "there is no validation split beside the training scenes"


def test_fewer_windows_and_other_numbers_of_views(tmp_path, scenes_root):
    assert len(trainings(tmp_path, scenes_root, most_windows=1)._labels) == 3 + 2
    with pytest.raises(ValueError, match="no window of 8 context views"):
        trainings(tmp_path, scenes_root, tested_views=8)._labels  # noqa: B018


def test_what_must_be_given(tmp_path, scenes_root):
    data = CapturedOptions({"all": scenes_root})
    with pytest.raises(ValueError, match="--validation-scenes"):
        CapturedStudy(data, {})
    with pytest.raises(ValueError, match="otherwise"):
        CapturedStudy(CapturedOptions({"all": scenes_root}, without=("b",)), {VALIDATION: scenes_root})


def saved(name, seed=0):
    scene, views = refinable_scene(gaussians=8, size=(16, 16), seed=seed, dtype=torch.float32)
    return SavedScene(name, scene, views, views)


def test_windows_choose_by_turns():
    names = ["a_00", "a_01", "a_02", "b_00", "b_01", "c_00"]
    assert [s.name for s in by_turns([saved(n) for n in names])] == ["a_00", "b_00", "c_00", "a_01", "b_01", "a_02"]


def test_the_customary_scores_are_those_of_its_scenes():
    scenes = [saved("a_00"), saved("b_00", 1)]
    found = customary_scores(scenes, CustomaryTTO(steps=(0, 30)))
    assert set(found) == {"0", "30"} and all(len(column) == 2 for column in found["30"].values())
    assert all(a > b for a, b in zip(found["30"]["psnr_after"], found["0"]["psnr_after"], strict=True))


def test_ceilings_without_depths(tmp_path):
    checkpoint = tmp_path / "w.ckpt"
    checkpoint.touch()
    settings = StudySettings(tmp_path, checkpoint, grid_scales=(1.0,), grid_steps=(2,), grid_factors=())
    rows = captured_ceilings([saved("a_00")], settings)
    assert not any("depth" in name for name in rows)
    values = {name: make()[0] for name, make in rows.items()}
    assert values["the best of five scales for each room"] >= values["the same weights everywhere"] - 1e-4
    assert values["the same weights everywhere"] > values["no refinement"]


def unit(before, after, customary=None, seconds=5.0):
    """Two windows of one validation scene, four of two test scenes."""

    def test(shift, count):
        names = [f"s{k // 2}_{k:02d}" for k in range(count)]
        values = {"psnr_before": [before + shift] * count, "psnr_after": [after + shift] * count}
        return {"rooms": names, "scores": {**values, "seconds": [0.1] * count}}

    found = {"tests": {VALIDATION: test(1.0, 2), "six": test(0.0, 4)}, "cpu_seconds": seconds}
    if customary is not None:
        found["customary"] = {
            "mse": {
                label: {
                    steps: {"psnr_after": [value + shift] * count, "seconds": [float(steps) / 100] * count}
                    for steps, value in customary.items()
                }
                for label, shift, count in ((VALIDATION, 1.0, 2), ("six", 0.0, 4))
            }
        }
    return found


def test_the_table_compares_with_the_best_that_validation_knows_of_plain():
    units = {
        "start": unit(18, 19, {"50": 18.5}),
        "plain, seed 1": unit(20, 21, {"50": 21.5, "200": 20.5}),
        "plain, seed 2": unit(20, 21, {"50": 20.5, "200": 20.0}),
        "implicit, seed 1": unit(19, 22),
        "implicit, seed 2": unit(19, 23),
    }
    assert best_refinement(units["plain, seed 1"]).name == "the customary TTO, mse, 50 steps"
    assert best_refinement(units["plain, seed 2"]).name == "the layer"
    assert best_customary(units["implicit, seed 1"]) is None
    assert best_customary(units["plain, seed 2"]).name == "the customary TTO, mse, 50 steps"
    assert [way.name for way in refinements(units["implicit, seed 1"])] == ["the layer"]
    record = {"units": units, "settings": {"context_views": 2}, "captured": {"tested_views": 2}}
    table = captured_table(record)
    row = next(line for line in table.splitlines() if line.startswith("| six | Diff3R, implicit"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[4] == "19.00 ± 0.00 ± 0.00" and cells[5] == "22.50 ± 0.00 ± 0.50"
    assert cells[6] == "+1.25 ± 0.00 ± 0.75", "22 - 21.5 and 23 - 21"
    assert cells[8] == "+1.50 ± 0.00 ± 1.00", "22 - 21.5 and 23 - 20.5"
    assert cells[9] == "-1.00 ± 0.00 ± 0.00"
    assert "| plain fine-tuning | the customary TTO, mse, 200 steps | 2.00 |" in table
    assert "six: 4 windows of 2 scenes" in table
    del units["plain, seed 2"]["customary"]
    table = captured_table(record)
    row = next(line for line in table.splitlines() if line.startswith("| six | Diff3R, implicit"))
    assert row.split("|")[8].strip() == "+0.50 ± 0.00", "over the seeds that have it alone"
    assert "| plain fine-tuning (seeds 1) | the customary TTO, mse, 50 steps |" in table


def test_corrupted_windows_count_by_scene():
    columns = by_scene([saved("blur_a_00"), saved("blur_a_01"), saved("pose_a_00")], {"psnr_after": [1.0, 3.0, 7.0]})
    assert columns == {"psnr_after": [2.0, 7.0]}
    rooms, kinds = ["blur_a", "pose_a"], {"blur_a": "blur", "pose_a": "pose"}

    def unit(values):
        part = {"psnr_after": values}
        return {"rooms": rooms, "scores": part, "oracle": {"psnr_after": [9.0, 9.0]}, "clean": {"psnr_after": [10.0]}}

    units = {"start": unit([2.0, 7.0]), "corrupted_plain, seed 1": unit([3.0, 7.0])}
    units["corrupted_exposure, seed 1"] = unit([4.0, 9.0])
    table = outlier_table({"units": units, "kinds": kinds, "captured": {}})
    assert "| clean scenes |" in table and "over scenes" in table
    assert "| Diff3R, the same and exposures | +1.00 | +2.00 | +1.50 ± 0.50 | +0.00 |" in table
