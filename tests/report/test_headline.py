"""The first lines promise no more than was measured."""

import math

import pytest

from diff3r_plugin.report.headline import Headline
from diff3r_plugin.report.run_folder import SceneRecord


def scenes(*gains, **solver):
    return [
        SceneRecord(f"s{n}", {"psnr": 20.0}, {"psnr": 20.0 + gain}, dict(solver), None) for n, gain in enumerate(gains)
    ]


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.0, 1.2, 0.9), "Refinement improved the held-out views. 3 of 3 scenes gained."),
        ((2.0, 2.2, 2.1, -0.1), "held-out views. 3 of 4 scenes gained; the largest loss is -0.10 dB (s3)."),
        ((-1.0, -1.2), "made the held-out views worse. 0 of 2 scenes gained; the largest loss is -1.20 dB (s1)."),
        ((3.0, -1.0), "No difference that this test could tell from chance"),
        ((0.0, 0.0), "No difference that this test could tell from chance"),
        ((2.0,), "One scene alone"),
        ((math.nan,), "nothing to compare"),
    ],
)  # fmt: skip
def test_verdict(gains, verdict):
    assert verdict in Headline.of(scenes(*gains)).verdict


def test_a_scene_without_a_score_is_left_out():
    assert Headline.of(scenes(1.0, 3.0, math.nan)).gain.mean == 2.0


def test_what_a_reader_must_know():
    assert Headline.of(scenes(1.0, 2.0, outcome="refined", renderer_agreement_psnr=60.0)).notes == []
    kept = Headline.of([*scenes(1.0, 2.0, outcome="refined"), *scenes(0.0, outcome="no_descent")]).notes
    assert kept == ["1 of 3 scenes kept their prediction, wholly or in part: 1 × no_descent."]
    (poor,) = Headline.of(scenes(1.0, 2.0, renderer_agreement_psnr=21.3)).notes
    assert "21.3 dB (expected: over 40)" in poor
    seen = SceneRecord("a", {"psnr": 20.0, "psnr_context": 25.0}, {"psnr": 20.0, "psnr_context": 28.0}, {}, None)
    (note,) = Headline.of([seen]).notes
    assert "which the refinement sees, PSNR rose by +3.00 dB" in note
