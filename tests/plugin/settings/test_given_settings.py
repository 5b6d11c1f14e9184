"""Settings from the environment and from a command line that is not Hydra's."""

from dataclasses import fields

import pytest

from diff3r_plugin import TTOConfig
from diff3r_plugin.cli import run
from diff3r_plugin.errors import UsageError
from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.settings.given_settings import KEYS, from_environment, variable, words_of
from diff3r_plugin.plugin.settings.settings import PluginSettings


def test_every_setting_has_a_variable_of_its_own():
    assert len({variable(key) for key in KEYS}) == len(KEYS)
    names = {key.split(".")[0] for key in KEYS}
    wanted = {f.name for f in fields(PluginSettings)} - {"tto"} | {f.name for f in fields(TTOConfig) if f.init}
    assert names == wanted


def test_values_are_read_as_what_they_are():
    found = from_environment(
        {
            "DIFF3R_INNER_STEPS": "4",
            "DIFF3R_HEAD_CROSS_VIEW": "true",
            "DIFF3R_REFINE": "[val, test]",
            "DIFF3R_HEAD": "fixed",
            "DIFF3R_CONFIDENCE": "off",
            "DIFF3R_STATIONARITY_WARNING": "null",
            "DIFF3R_LEARNING_RATES_MEANS": "0.5",
            "DIFF3R_WEIGHTS_MEANS": "2",
            "DIFF3R_CXX": "clang++",
            "HOME": "/",
        }
    )
    settings = PluginSettings.parse(found)
    assert settings.tto.inner_steps == 4 and settings.head_cross_view and settings.refine == ("val", "test")
    assert settings.head == "fixed" and settings.tto.stationarity_warning is None
    assert settings.weights == {"means": 2} and settings.tto.learning_rates == {"means": 0.5}


@pytest.mark.parametrize(
    ("name", "message"),
    [("DIFF3R_INER_STEPS", "Did you mean 'DIFF3R_INNER_STEPS'"), ("DIFF3R_WEIGHTS_MEAN", "'DIFF3R_WEIGHTS_MEANS'")],
)
def test_a_variable_that_is_no_setting_is_named(name, message):
    with pytest.raises(PluginError, match=message):
        from_environment({name: "1"})


def test_words_are_taken_from_a_command_line_and_nothing_else_is():
    line = ["main.py", "configs/main.yaml", "diff3r.weights.means=3", "++diff3r.refine=[test]", "opt.lr=1", "diff3r.x"]
    assert words_of(line) == {"weights": {"means": 3}, "refine": ["test"]}
    assert line == ["main.py", "configs/main.yaml", "opt.lr=1", "diff3r.x"]


def test_a_list_that_does_not_end_is_named():
    with pytest.raises(PluginError, match=r"'\[train' begins a list that does not end"):
        from_environment({"DIFF3R_REFINE": "[train"})


def test_run_hands_settings_on_by_the_environment():
    assert run.settings(["inner_steps=4", "diff3r.weights.means=2"]) == {
        "DIFF3R_INNER_STEPS": "4",
        "DIFF3R_WEIGHTS_MEANS": "2",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("inner_steps", "write KEY=VALUE"),
        ("iner_steps=3", "Did you mean 'inner_steps'"),
        ("inner_steps=many", "diff3r.inner_steps must be a whole number"),
    ],
)
def test_run_refuses_what_is_no_setting_before_anything_runs(word, message):
    with pytest.raises(UsageError, match=message):
        run.settings([word])
