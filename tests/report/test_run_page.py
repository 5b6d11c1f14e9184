"""The page of a test: one file that needs nothing else and shows what the test measured."""

import json
import re
from html.parser import HTMLParser

import pytest

from diff3r_plugin.cli.main import main
from diff3r_plugin.report.run_folder import EvaluationRun
from diff3r_plugin.report.run_page import write_run_page

from .conftest import write_run


class Parts(HTMLParser):
    """Collects the elements of a page with their attributes, its text, and its scripts by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._script = "", {}, None
        self.feed(page)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id", "") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(run_folder, tmp_path_factory) -> str:
    return write_run_page(run_folder, tmp_path_factory.mktemp("page") / "deep" / "page.html").read_text("utf-8")


@pytest.fixture(scope="module")
def parts(page) -> Parts:
    return Parts(page)


def test_nothing_comes_from_elsewhere(page, parts):
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", page)
    policy = next(a["content"] for a in parts.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert parts.of("img") and all(a["src"].startswith("data:image/png;base64,") for a in parts.of("img"))
    assert not any("src" in a for a in parts.of("script")) and not parts.of("link")


def test_headline_and_means_are_those_of_the_scores(run_folder, parts):
    run = EvaluationRun.read(run_folder)
    gains = [scene.gain("psnr") for scene in run.scenes]
    mean, error = sum(gains) / 2, abs(gains[0] - gains[1]) / 2
    assert f"{mean:+.2f} ± {error:.2f} dB" in parts.text
    assert "2 of 2 scenes gained" in parts.text
    for metric in ("PSNR", "SSIM", "context PSNR"):
        assert metric in parts.text
    for scene in run.scenes:
        assert (
            f"PSNR {scene.before['psnr']:.2f} → {scene.after['psnr']:.2f} dB ({scene.gain('psnr'):+.2f})" in parts.text
        )


def test_every_scene_has_its_images_errors_and_energy(parts):
    labels = [a["alt"] for a in parts.of("img")]
    for label in ("rendered before refinement", "rendered after refinement", "ground truth", "error before",
                  "error after", "change of the error"):  # fmt: skip
        assert labels.count(label) == 4, label  # two scenes, two target views
    assert labels.count("context 1") == labels.count("context 2") == 2
    assert sum(a.get("class") == "spark" for a in parts.of("svg")) == 2
    assert sum(a.get("type") == "range" for a in parts.of("input")) == 4


def test_the_scenes_themselves_are_inside(parts):
    for number in (0, 1):
        data = json.loads(parts.scripts[f"splats-{number}"])
        assert data["count"] == 288 and data["before"] != data["after"]


def test_settings_are_all_there_and_those_that_were_changed_stand_out(parts):
    keys = [a.get("class") for a in parts.of("dt")]
    assert "diff3r.inner_steps" in parts.text and "diff3r.groups" in parts.text
    assert "[means, covariance, opacity, sh_dc, sh_rest]" in parts.text
    assert keys.count("changed") == 2  # log_every, inner_steps


def test_what_is_missing_is_said(tmp_path):
    write_run(tmp_path / "none", pictures=False, scenes=False)
    text = Parts(write_run_page(tmp_path / "none").read_text("utf-8")).text
    assert "This test wrote no images. Run it with diff3r.save_pictures=true diff3r.save_scenes=true" in text
    write_run(tmp_path / "flat", names=("room_a",), scenes=False)
    parts = Parts(write_run_page(tmp_path / "flat").read_text("utf-8"))
    assert "To see the scenes in 3D here, run the test with diff3r.save_scenes=true." in parts.text
    assert "One scene alone" in parts.text and "± nan" not in parts.text
    assert not any(a.get("class") == "walk" for a in parts.of("div"))


def test_names_are_text_not_markup(tmp_path):
    entry = {"scene": "<b>&", "before": {"psnr": 1.0}, "after": {"psnr": 2.0}, "energy": [], "outcome": "refined"}
    scores = {"scenes": [entry], "command": "run a='<i>'", "adapter": "</title>"}
    (tmp_path / "diff3r_scores.json").write_text(json.dumps(scores))
    text = write_run_page(tmp_path).read_text("utf-8")
    assert "<b>&" not in text and "<i>" not in text and "&lt;b&gt;&amp;" in text
    assert "run a='<i>'" in Parts(text).text


def test_only_as_many_scenes_and_views_as_asked_for(run_folder, tmp_path):
    page = write_run_page(run_folder, tmp_path / "small.html", scenes=1, views=1, interactive=0)
    parts = Parts(page.read_text("utf-8"))
    assert [a["alt"] for a in parts.of("img")].count("ground truth") == 1
    assert "1 of 2 scenes, spread evenly" in parts.text
    assert not any(name.startswith("splats") for name in parts.scripts)


def test_command(run_folder, tmp_path, capsys):
    assert main(["report", str(run_folder), "--out", str(tmp_path / "a.html"), "--views", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.html")
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert re.fullmatch(r"diff3r report: there is no folder .*\n", capsys.readouterr().err)


def test_the_page_goes_beside_the_scores_and_opens_where_asked(run_folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write_run(tmp_path / "test", names=("room_a",), scenes=False)
    assert main(["report", str(tmp_path), "--open"]) == 0
    assert opened == [(tmp_path / "test" / "diff3r_report.html").as_uri()]


def test_files_that_cannot_be_read_are_named_and_the_rest_is_shown(tmp_path):
    write_run(tmp_path, names=("whole", "cut_scene", "cut_image", "half"))
    cut_scene, cut_image = (
        tmp_path / "diff3r" / name for name in ("cut_scene/scene.pt", "cut_image/target_1_after.png")
    )
    for path in (cut_scene, cut_image):
        path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "diff3r" / "half" / "target_1_after.png").unlink()
    parts = Parts(write_run_page(tmp_path).read_text("utf-8"))
    assert "These scenes cannot be shown, for their files cannot be read: " in parts.text
    assert "cut_scene: " in parts.text and "cut_image: " in parts.text
    assert [a["alt"] for a in parts.of("img")].count("ground truth") == 3  # both views of "whole", one of "half"


def test_a_sweep_of_steps_is_drawn_and_the_command_and_checkpoint_told(tmp_path):
    write_run(tmp_path, pictures=False, scenes=False)
    point = lambda steps, psnr: {  # noqa: E731
        "steps": steps,
        "psnr": {"mean": psnr, "standard_error": 0.5},
        "psnr_context": {"mean": psnr + 3, "standard_error": None},
    }
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    scores |= {"sweep": [point(0, 20.0), point(4, 22.0)], "command": "python -m src.main mode=test"}
    scores["checkpoint"] = {"path": "runs/last.ckpt", "bytes": 3}
    (tmp_path / "diff3r_scores.json").write_text(json.dumps(scores))
    text = Parts(write_run_page(tmp_path).read_text("utf-8")).text
    assert "PSNR by number of steps" in text and "context views" in text
    assert "python -m src.main mode=test" in text and "checkpointruns/last.ckpt" in text
