"""The page of a scene that ``diff3r refine`` made: its views in place of scenes, and the scene in 3D."""

import json

import pytest
from refine_files import write_scene

from diff3r_plugin.cli.main import main
from diff3r_plugin.report.refined_scene import as_test_run, both_states, rounds_of
from diff3r_plugin.report.run_folder import EvaluationRun, ReportError
from diff3r_plugin.report.run_page import write_run_page

from .test_run_page import Parts


def refined(folder, *options):
    """The output folder of the command."""
    scene, cameras = write_scene(folder)
    words = [str(scene), "--cameras", str(cameras), "--out", str(folder / "out"), "--steps", "2", *options]
    assert main(["refine", *words]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return refined(tmp_path_factory.mktemp("refined"), "--hold-out", "0,3", "--rounds", "2")


def test_views_stand_in_for_scenes(out):
    run = as_test_run(EvaluationRun.read(out))
    assert run.unit == "view" and run.judged == "held-out views"
    assert [scene.name for scene in run.scenes] == [view["name"] for view in run.header["views"]["held_out"]]
    assert all(scene.folder == out / "images" and scene.gain("psnr") > 0 for scene in run.scenes)
    assert len(rounds_of(run)) == 2 and all(after < before for before, after in rounds_of(run))


def test_page_has_the_views_and_the_scene(out):
    parts = Parts(write_run_page(out).read_text("utf-8"))
    assert "2 of 2 views gained" in parts.text
    assert "All views are of one scene" in parts.text
    assert [a["alt"] for a in parts.of("img")].count("ground truth") == 2
    (splats,) = [json.loads(text) for name, text in parts.scripts.items() if name.startswith("splats")]
    assert splats["count"] == 60 and splats["before"] != splats["after"]
    assert "before and after each round" in parts.text


def test_without_held_out_views_it_says_that_a_gain_says_little(tmp_path):
    page = write_run_page(refined(tmp_path, "--hold-out", "none"))
    text = Parts(page.read_text("utf-8")).text
    assert "PSNR on context views" in text and "No view was held out" in text


def test_inputs_that_are_gone_leave_the_page_without_its_scene(tmp_path):
    out = refined(tmp_path, "--hold-out", "0")
    (tmp_path / "scene.ply").unlink()
    run = as_test_run(EvaluationRun.read(out))
    assert both_states(run) is None
    assert "cannot be shown in 3D" in Parts(write_run_page(out).read_text("utf-8")).text


def test_metrics_of_another_program_are_no_scores(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"loss": 1.0}))
    with pytest.raises(ReportError, match="no scores in"):
        EvaluationRun.read(tmp_path)


def test_any_other_run_stays_as_it_is(run_folder):
    run = EvaluationRun.read(run_folder)
    assert as_test_run(run) is run
