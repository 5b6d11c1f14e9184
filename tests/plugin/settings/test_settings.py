"""Settings from a host's configuration: types, ranges, unknown names."""

import dataclasses

import pytest

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.settings.settings import PluginSettings


def test_nothing_given_is_the_defaults():
    assert PluginSettings.parse({}) == PluginSettings.parse(None) == PluginSettings()


def test_keys_of_the_layer_and_of_the_plugin_share_one_namespace():
    settings = PluginSettings.parse(
        {"inner_steps": 3, "groups": ["means", "opacity"], "refine": "val, test", "weights": {"means": 2}}
    )
    assert settings.tto.inner_steps == 3 and settings.tto.groups == ("means", "opacity")
    assert settings.refine == ("val", "test") and settings.weights == {"means": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iner_steps": 3}, r"'diff3r.iner_steps'. Did you mean 'diff3r.inner_steps'"),
        ({"refien": "test"}, r"Did you mean 'diff3r.refine'"),
        ({"inner_steps": "many"}, r"diff3r.inner_steps must be a whole number, like \d+; got 'many'"),
        ({"inner_steps": 2.5}, r"whole number.*got 2.5"),
        ({"inner_steps": -1}, r"diff3r.inner_steps=-1"),
        ({"inner_steps": True}, r"whole number.*got True"),
        ({"save_ply": "yes"}, r"diff3r.save_ply must be a true or false"),
        ({"backward_mode": "implict"}, r"backward_mode='implict'"),
        ({"rasterizer": "dropin"}, r"diff3r.rasterizer: 'dropin'. Did you mean 'drop_in'"),
        ({"refine": "train,tset"}, r"'tset'. Did you mean 'test'"),
        ({"weights": {"mean": 1.0}}, r"Did you mean 'diff3r.weights.means'"),
        ({"weights": {"means": 0.0}}, r"diff3r.weights.means must be a positive number, got 0.0"),
        ({"weights": {"means": "big"}}, r"positive number, got 'big'"),
        ({"weights": 3}, r"diff3r.weights must be a mapping"),
        ({"log_every": 0}, r"diff3r.log_every must be at least 1, got 0"),
        ({"head_lr_multiplier": -1.0}, r"must not be negative"),
        ({"refine": None}, r"diff3r.refine must be a list, like .*; got None"),
        ({"inner_steps": None}, r"diff3r.inner_steps must be a whole number, like \d+; got None"),
    ],
)
def test_bad_values_say_what_was_given_and_what_is_right(given, message):
    with pytest.raises(PluginError, match=message):
        PluginSettings.parse(given)


def test_null_is_a_value_only_where_it_means_something():
    assert PluginSettings.parse({"stationarity_warning": None}).tto.stationarity_warning is None


def test_every_setting_is_described():
    described = PluginSettings.__doc__
    assert [f.name for f in dataclasses.fields(PluginSettings) if f"        {f.name}: " not in described] == []
