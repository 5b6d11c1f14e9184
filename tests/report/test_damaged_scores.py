"""Damaged files of scores: an error in one line or a right result, never a crash."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diff3r_plugin.cli.main import main
from diff3r_plugin.report.headline import Headline
from diff3r_plugin.report.refined_scene import as_test_run
from diff3r_plugin.report.run_folder import EvaluationRun, ReportError
from diff3r_plugin.report.run_page import Column

ENTRY = {
    "scene": "a",
    "occurrence": 0,
    "before": {"psnr": 20.0, "ssim": 0.5},
    "after": {"psnr": 21.0, "ssim": 0.6},
    "energy": [2.0, 1.0],
    "outcome": "refined",
    "renderer_agreement_psnr": 60.0,
}
SCORES = {"adapter": "stub", "settings": {"log_every": 1, "tto": {"inner_steps": 2}}, "scenes": [ENTRY, ENTRY]}
REFINED = {
    "refine_seconds": 1.0,
    "settings": {"tto": {}},
    "views": {"held_out": [{"name": "0.png", "before": {"psnr": 1.0}, "after": {"psnr": 2.0}}], "context": []},
    "rounds": [{"energy_before": 2.0, "energy_after": 1.0}],
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([1]),
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(folder):
    """What the page says in words, or a ReportError."""
    try:
        run = as_test_run(EvaluationRun.read(folder))
    except ReportError as error:
        assert str(error)
        return None
    columns = [Column.of(key) for key in run.metrics()]
    return Headline.of(run.scenes, run.unit, run.judged), [column.summary(run.scenes) for column in columns]


def paths(value, at=()):
    """Every place within a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def replaced(value, path, new):
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], rest, new)
    return copy


@FUZZ
@given(st.data(), st.sampled_from([("diff3r_scores.json", SCORES), ("metrics.json", REFINED)]))
def test_anything_in_place_of_a_value(tmp_path, data, file):
    name, content = file
    for other in tmp_path.iterdir():
        other.unlink()
    path = data.draw(st.sampled_from(list(paths(content))))
    (tmp_path / name).write_text(json.dumps(replaced(content, path, data.draw(VALUES))))
    read(tmp_path)


@FUZZ
@given(st.data())
def test_bytes_cut_off_or_changed(tmp_path, data):
    lines = "\n".join(json.dumps(line) for line in ({"adapter": "stub"}, ENTRY, {"finished": True})) + "\n"
    name, text = data.draw(st.sampled_from([("diff3r_scores.json", json.dumps(SCORES)), ("scores.jsonl", lines)]))
    for other in tmp_path.iterdir():
        other.unlink()
    raw = bytearray(text.encode())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(bytes(raw))
    read(tmp_path)


def test_whole_files_are_read(tmp_path):
    (tmp_path / "diff3r_scores.json").write_text(json.dumps(SCORES))
    headline, summaries = read(tmp_path)
    assert headline.gain.mean == 1.0 and summaries[0][2] == "+1.00"


@pytest.mark.parametrize(
    "change",
    [
        {"sweep": [{"steps": "x"}]},
        {"sweep": 3},
        {"settings": {"tto": {"inner_steps": "many"}, "groups": 5}},
        {"checkpoint": [], "command": 5},
        {"scenes": [{**ENTRY, "seconds": "long", "accepted_steps": None, "stationarity": [], "outcome": 7}]},
    ],
)
def test_the_page_takes_what_it_can(tmp_path, change, capsys):
    (tmp_path / "diff3r_scores.json").write_text(json.dumps({**SCORES, **change}))
    status = main(["report", str(tmp_path)])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) in ((0, 0), (1, 1)), err
