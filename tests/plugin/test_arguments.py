"""What is read from, and written to, a host's command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diff3r_startup import arguments

WORDS = st.sampled_from(
    [
        "--plugin",
        "diff3r",
        "--plugin=diff3r",
        "--plugin=x",
        "diff3r.a=1",
        "+diff3r.a=1",
        "++diff3r.b=2",
        "mode=test",
        "",
    ]
)


@given(st.lists(WORDS))
def test_stripping_takes_every_flag_and_nothing_else(words):
    once = list(words)
    found = arguments.strip_flag(once)
    assert (found is None) == (once == words)
    twice = list(once)
    assert arguments.strip_flag(twice) is None and twice == once
    others = [word for word in words if not word.startswith("--plugin") and word != "diff3r"]
    assert [word for word in once if not word.startswith("--plugin") and word != "diff3r"] == others


@given(st.lists(WORDS))
def test_overrides_are_forced_once(words):
    once = list(words)
    arguments.force_overrides(once)
    twice = list(once)
    arguments.force_overrides(twice)
    assert once == twice and not any(word.startswith("diff3r.") for word in once)
    assert [word.lstrip("+") for word in once] == [word.lstrip("+") for word in words]


def test_the_last_value_of_an_override_counts():
    words = ["diff3r.rasterizer=host", "++diff3r.rasterizer=drop_in", "other.rasterizer=x"]
    assert arguments.override_value(words, "rasterizer") == "drop_in"
    assert arguments.override_value(words, "adapter") is None


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (
            ["--plugin", "difr"],
            "",
            "unknown plugin 'difr' given by --plugin; known plugins: diff3r. Did you mean 'diff3r'?",
        ),
        (["--plugin=zzz"], "", "unknown plugin 'zzz'"),
        (["mode=train", "--plugin"], "", "--plugin needs a name: --plugin diff3r. Nothing was run."),
        (["--plugin", "mode=train"], "", "--plugin needs a name"),
        (["--plugin", "--other"], "", "--plugin needs a name"),
        (["--plugin="], "", "--plugin needs a name"),
        ([], "dif3r", "unknown plugin 'dif3r' given by DIFF3R_PLUGIN"),
    ],
)
def test_unknown_plugins_are_refused_with_the_known_ones(monkeypatch, words, environment, message):
    monkeypatch.setenv("DIFF3R_PLUGIN", environment)
    with pytest.raises(SystemExit) as caught:
        arguments.refuse_unknown(words)
    assert message in str(caught.value)


def test_known_plugins_pass(monkeypatch):
    monkeypatch.setenv("DIFF3R_PLUGIN", "diff3r")
    words = ["mode=train", "--plugin=diff3r"]
    assert arguments.refuse_unknown(words) is None and words == ["mode=train", "--plugin=diff3r"]


@pytest.mark.parametrize("setting", ["diff3r.inner_steps=3", "+diff3r.inner_steps=3", "++diff3r.inner_steps=3"])
def test_settings_without_the_flag_are_refused(monkeypatch, setting):
    monkeypatch.delenv("DIFF3R_PLUGIN", raising=False)
    with pytest.raises(SystemExit) as caught:
        arguments.refuse_unknown(["mode=train", setting])
    assert str(caught.value).startswith("diff3r: diff3r.inner_steps=3 is a setting of the plugin, which was not asked")
    assert "add --plugin diff3r" in str(caught.value)


def test_settings_of_a_plugin_that_was_switched_off_are_the_hosts_to_judge(monkeypatch):
    monkeypatch.setenv("DIFF3R_PLUGIN", "off")
    arguments.refuse_unknown(["mode=train", "diff3r.inner_steps=3", "diff3r.py", "other.key=1"])
