"""The report: one file that needs nothing else, and that shows what the results hold."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from diff3r_plugin.demo.figures import relative, smoothed
from diff3r_plugin.demo.grid import GridPoint, GridSearch
from diff3r_plugin.demo.page import chosen, write_report
from diff3r_plugin.demo.results import Comparison, DemoResults, PairedDifference, Scores, TestedScenes, Training
from diff3r_plugin.io import write_image
from diff3r_plugin.mean_and_error import MeanAndError

SCENES = ["room_a", "room_b", "room_c"]
TRAININGS = ("plain", "diff3r", "plain_equal_time")


TRAINING = Training(
    seconds=61.0,
    steps=40,
    curves={"step": [0, 9, 19], "loss/total": [0.3, 0.2, 0.1], "train/psnr": [15.0, math.nan, 18.0]},
)


def scored(shift: float) -> TestedScenes:
    psnr = [20 + shift, 24 + shift * 2, 22 - shift]
    return TestedScenes(
        scenes=SCENES,
        before=Scores([p - 1 for p in psnr], [0.5, 0.6, 0.7], psnr),
        after=Scores(psnr, [0.6, 0.7, 0.8], psnr),
        seconds=[0.1, 0.2, 0.3],
        energy=[[4.0, 2.0, 1.0], [8.0, 3.0], [5.0, math.nan]],
        stationarity=[0.1, 0.1, math.nan],
        outcomes=["refined"] * 3,
    )


def write_results(folder, quick: bool) -> None:
    comparison = Comparison.of({name: scored(shift) for name, shift in zip(TRAININGS, (0.0, 1.0, 0.1), strict=True)})
    one_error = PairedDifference(MeanAndError(0.67, 0.4), MeanAndError(0.01, math.nan))
    comparison = replace(comparison, paired_difference={"plain": one_error, "plain_equal_time": one_error})
    point = GridPoint(steps=4, weights={"means": 0.1, "opacity": 10.0}, psnr=22.0, ssim=0.7, seconds=0.2)
    DemoResults(
        seed=7,
        total_seconds=600.0,
        trainings=dict.fromkeys(TRAININGS, TRAINING),
        rooms=comparison,
        also={"fox": comparison},
        grids={"plain": GridSearch(21.0, (point,), point, ("v",))},
        refinement_settings={"plain": ["diff3r.head=fixed"]},
        settings={"shown_scenes": 2, "quick": quick},
        versions={"torch": "2.13.0"},
        commands={"train plain": "python -m src.main mode=train a='<b>'"},
    ).save(folder / "results.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The output folder of a demonstration; only one scene has images."""
    folder = tmp_path_factory.mktemp("demo")
    write_results(folder, quick=False)
    for run in ("plain", "diff3r"):
        place = folder / "runs" / run / "test" / "diff3r" / "room_b"
        names = ["context_0", "context_1", *(f"target_{v}_{k}" for v in range(3) for k in ("truth", "before", "after"))]
        for name in [*names, "target_1_error_before", "target_1_error_after"]:
            write_image(place / f"{name}.png", torch.rand(3, 12, 12))
    write_image(place / "weight_means_0.png", torch.rand(3, 12, 12))
    write_image(place / "confidence_0.png", torch.rand(3, 12, 12))
    ranges = {"least": 0.012, "largest": 3.4, "black": 0.01, "white": 4.0}
    (place / "weight_ranges.json").write_text(json.dumps({"means": ranges}))
    write_report(folder)
    return folder


class Parts(HTMLParser):
    """Collects the elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text()


def test_page_needs_nothing_from_elsewhere(page):
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", page)
    for tag, attributes in Parts(page).elements:
        assert tag not in ("script", "link", "iframe"), tag
        source = attributes.get("src")
        assert source is None or source.startswith("data:image/png;base64,")
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), attributes


def test_page_shows_table_renderings_and_curves(page):
    parts = Parts(page)
    text = re.sub(r"\s+", " ", parts.text)
    assert "22.00 ± 1.15" in text  # plain after
    assert "22.67 ± 1.67" in text  # Diff3R after
    assert "PSNR +0.67 ± 0.40 dB, SSIM +0.0100" in text  # one standard error is not known
    for title in ("plain", "plain, equal time", "Diff3R"):
        assert title in text
    captions = [a.get("alt") for tag, a in parts.elements if tag == "img"]
    means = "means, 0.012 to 3.4 (black 0.01, white 4)"
    for caption in ("context 1", "context 2", "ground truth", means, "confidence, context 1"):
        assert captions.count(caption) == 1, caption
    for caption in ("before", "after", "error before", "error after"):
        assert captions.count(caption) == 2, caption  # plain and Diff3R
    assert sum(tag == "svg" for tag, _ in parts.elements) == 5  # differences twice, energy, loss, PSNR
    assert "Energy of the context views" in text
    assert "Training loss" in text
    assert "Further data: fox" in text


def test_words_do_not_run_together(page):
    """A block tag at a line's end takes the line break with it."""
    assert re.search(r"was (trained|fine-tuned)\s+from seed", page)


def test_commands_are_text_not_markup(page):
    assert "a=&#39;&lt;b&gt;&#39;" in page
    assert "python -m src.main mode=train a='<b>'" in Parts(page).text


def test_figures_follow_the_color_of_the_page(page):
    assert "currentColor" in page
    assert "prefers-color-scheme: dark" in page


def test_a_quick_run_says_first_that_it_is_too_short(page, tmp_path):
    assert "Too short" not in page
    write_results(tmp_path, quick=True)
    quick = write_report(tmp_path).read_text()
    assert re.search(r"<title>Too short to learn anything", quick)
    assert re.search(r"<h1>Too short to learn anything", quick)


def test_shown_scenes_span_the_differences():
    def comparison(*psnr):
        four = replace(scored(0.0), scenes=list("abcd"))
        other = replace(four, after=replace(four.after, psnr=[0.0] * 4, ssim=[0.0] * 4))
        return Comparison.of({"plain": other, "diff3r": replace(other, after=replace(other.after, psnr=list(psnr)))})

    assert chosen(comparison(1.0, 5.0, 3.0, 0.0), 2) == [1, 3]
    assert chosen(comparison(1.0, 5.0, 3.0, 0.0), 3)[::2] == [1, 3]
    assert chosen(comparison(1.0, 5.0, 3.0, 0.0), 9) == [1, 2, 0, 3]


def test_curves_are_smoothed_without_delay_and_energies_start_at_one():
    ramp = [float(i) for i in range(64)]
    assert smoothed(ramp)[8:-8] == pytest.approx(ramp[8:-8])
    assert smoothed([3.0, 1.0]) == [3.0, 1.0]
    assert relative([4.0, 2.0, math.nan]) == [1.0, 0.5]
    assert relative([math.nan]) == []
