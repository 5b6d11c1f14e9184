"""Figures, tables and errors of the demonstration."""

import json
import math

import pytest
import torch

from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.demo import DemoError, DemoSettings
from diff3r_plugin.demo import data as demo_data
from diff3r_plugin.demo.grid import GridPoint, GridSearch
from diff3r_plugin.demo.host import HostCommand, TrainingLog, host_folder, run
from diff3r_plugin.demo.results import Comparison, DemoResults, PairedDifference, Scores, TestedScenes, Training
from diff3r_plugin.demo.table import table_rows


def scored(psnr, ssim=(0.5, 0.6, 0.7), scenes=("a", "b", "c")):
    psnr = list(map(float, psnr))
    scores = Scores(psnr, list(ssim), psnr)
    return TestedScenes(list(scenes), scores, scores, [0.1, 0.2, 0.3], [[2.0, 1.0]] * 3, [0.1] * 3, ["refined"] * 3)


def test_differences_are_paired():
    """Scenes differ by far more than trainings do: the error of the difference must not contain theirs."""
    found = PairedDifference.between(scored([10.5, 20.5, 30.5]), scored([10.0, 20.0, 30.0]))
    assert (found.psnr.mean, found.psnr.standard_error) == (pytest.approx(0.5), pytest.approx(0.0))


def test_only_tests_on_the_same_scenes_are_compared():
    with pytest.raises(DemoError, match="not tested on the same scenes"):
        Comparison.of({"diff3r": scored([1, 2, 3]), "plain": scored([1, 2, 3], scenes=("a", "b", "d"))})


def test_table_has_a_row_per_training_in_a_fixed_order():
    tests = {"diff3r": scored([22, 23, 24]), "plain": scored([20, 21, 22]), "plain_equal_time": scored([21, 22, 23])}
    heading, rows = table_rows(Comparison.of(tests), dict.fromkeys(tests, Training(12.0, 40, {})))
    assert [row[0] for row in rows] == ["plain", "plain, equal time", "Diff3R"]
    assert dict(zip(heading, rows[0], strict=True))["PSNR after"] == "21.00 ± 0.58"
    assert rows[0][-1] == "0.20"


def test_scores_are_read_in_the_order_of_the_names(tmp_path):
    def entry(name, psnr):
        scores = {"psnr": psnr, "ssim": 0.5, "psnr_context": 30.0}
        return {"scene": name, "before": scores, "after": scores, "seconds": 0.1, "energy": [2.0, 1.0],
                "stationarity": 0.1, "outcome": "refined"}  # fmt: skip

    path = tmp_path / "diff3r_scores.json"
    path.write_text(json.dumps({"scenes": [entry("b", 2.0), entry("a", 1.0)]}))
    found = TestedScenes.read(path)
    assert found.scenes == ["a", "b"]
    assert found.after.psnr == [1.0, 2.0]


def test_results_come_back_as_they_were_saved(tmp_path):
    point = GridPoint(steps=4, weights={"means": 0.1}, psnr=22.0, ssim=0.7, seconds=0.2)
    comparison = Comparison.of({"diff3r": scored([22, math.nan, 24]), "plain": scored([20, 21, 22])})
    results = DemoResults(
        seed=1,
        total_seconds=600.5,
        trainings={"plain": Training(12.0, 40, {"step": [0.0, 9.0], "loss/total": [0.5, math.nan]})},
        rooms=comparison,
        also={"fox": comparison},
        grids={"plain": GridSearch(21.0, (point,), point, ("v",))},
        refinement_settings={"plain": ["diff3r.head=fixed"]},
        settings={"out": "outputs/demo"},
        versions={"torch": "2.13.0"},
        commands={"train plain": "python -m src.main"},
    )
    results.save(tmp_path / "results.json")
    assert repr(DemoResults.load(tmp_path / "results.json")) == repr(results)  # as text, for NaN is not equal to itself


def test_training_log_tells_the_pace_of_the_steps(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("diff3r_plugin.demo.host.time.monotonic", lambda: now[0])
    path = tmp_path / "metrics.jsonl"
    log = TrainingLog(path)
    log.read()
    assert (log.step, log.seconds()) == (0, None)
    with path.open("a") as file:
        for step in (9, 19, 29):
            now[0] = 100.0 + 2.0 * step
            print(json.dumps({"step": step, "loss/total": 1.0 / (step + 1)}), file=file)
            file.write('{"step": 30, "val/psnr"')  # half a line, to be completed below
            file.flush()
            log.read()
            print(": 1.0}", file=file, flush=True)
    assert log.step == 30
    assert log.seconds() == pytest.approx(60.0)
    curves = log.curves("loss/total", "other")
    assert curves["step"] == [9, 19, 29] and curves["loss/total"] == [0.1, 0.05, 1 / 30]
    assert all(map(math.isnan, curves["other"]))


def test_a_failing_host_shows_the_end_of_its_log(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text(
        "import sys, diff_gaussian_rasterization\nprint('\\n'.join(map(str, range(99))), sys.argv[1:])\nsys.exit(3)"
    )
    monkeypatch.setattr("diff3r_plugin.demo.host.host_folder", lambda: tmp_path)
    command = HostCommand("training plain", ("mode=train", "a=[b c]"), tmp_path / "logs" / "log.txt")
    with pytest.raises(DemoError, match="training plain failed with status 3") as caught:
        run(command)
    message = str(caught.value)
    assert "  98 ['+experiment=re10k', 'mode=train', 'a=[b c]']" in message
    assert "  58\n" not in message  # the beginning is left to the log itself
    assert str(command.log) in message
    assert command.line().startswith(f"cd {tmp_path} && PYTHONPATH=")
    assert command.line().endswith("python -m src.main +experiment=re10k mode=train 'a=[b c]'")


def test_the_host_is_beside_the_package():
    assert (host_folder() / "config" / "experiment" / "re10k.yaml").is_file()


def test_bad_settings_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(DemoError, match="steps must be at least 1, got 0"):
        DemoSettings(steps=0)
    with pytest.raises(DemoError, match="at least 2 training"):
        DemoSettings(data=DataOptions(train=2, val=1, test=1))
    with pytest.raises(DemoError, match="fox"):
        DemoSettings.tiny(also_test={"fox": tmp_path})


def test_rooms_are_written_once(tmp_path):
    options = DataOptions(train=1, val=1, test=1, frames=6, size=8, supersample=1)
    assert demo_data.rooms(tmp_path, options, progress=False)
    assert not demo_data.rooms(tmp_path, options, progress=False)
    assert demo_data.options_command(tmp_path, options) == (
        f"diff3r make-data {tmp_path} --train 1 --val 1 --test 1 --frames 6 --size 8 --supersample 1"
    )


def test_long_sequences_are_cut_where_there_is_no_index(tmp_path):
    options = DataOptions(train=0, val=0, test=1, frames=12, size=8, supersample=1)
    make_data(tmp_path / "rooms", options, workers=1, progress=False)
    whole_rooms = demo_data.TestData.rooms(tmp_path / "rooms", "test")
    assert demo_data.windows(tmp_path / "rooms", tmp_path / "cut") == whole_rooms and whole_rooms.count() == 1
    (tmp_path / "rooms" / "evaluation_index_test.json").unlink()
    cut = demo_data.windows(tmp_path / "rooms", tmp_path / "cut")
    (whole,) = torch.load(tmp_path / "rooms" / "test" / "000000.torch")
    cases = torch.load(cut.root / "test" / "000000.torch")
    assert [case["key"] for case in cases] == [f"{whole['key']}_0000", f"{whole['key']}_0005"]
    assert torch.equal(cases[1]["cameras"], whole["cameras"][5:10])
    assert torch.equal(cases[1]["images"][4], whole["images"][9])
    assert json.loads(cut.index.read_text())[cases[0]["key"]] == {"context": [0, 4], "target": [1, 2, 3]}
