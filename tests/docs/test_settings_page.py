"""``docs/settings.md`` names every setting, with the default that the code has."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from diff3r_plugin import config, ranges
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.heads.weight_head import RANGE, starting_weights
from diff3r_plugin.plugin.settings import settings
from diff3r_plugin.plugin.settings.settings import PluginSettings

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")

CHOICES = {
    "inner_solver": config.INNER_SOLVERS,
    "backward_mode": config.BACKWARD_MODES,
    "preconditioner": ranges.PRECONDITIONERS,
    "backend": config.BACKENDS,
    "groups": tuple(GROUPS),
    "refine": settings.STAGES,
}


def rows(pattern: str) -> list[tuple[str, str, str]]:
    """Name, default and the rest of each table row whose first cell matches."""
    return re.findall(rf"^\| `{pattern}` \| `([^`]*)` \|(.*)$", PAGE, re.MULTILINE)


def documented() -> dict[str, tuple[object, str]]:
    """Setting -> (default, range)."""
    found = {}
    for name, default, rest in rows(r"diff3r\.(\w+)"):
        assert name not in found, f"diff3r.{name} stands on the page twice"
        found[name] = (yaml.safe_load(default), rest.split(" | ")[0])
    return found


def defaults() -> dict[str, object]:
    """Setting -> default, as the code has it."""
    found = {}
    for item in (*fields(TTOConfig), *fields(PluginSettings)):
        if item.name != "tto":
            value = item.default if item.default is not MISSING else item.default_factory()
            found[item.name] = list(value) if isinstance(value, tuple) else value
    return found


def test_the_page_names_exactly_the_settings_there_are():
    assert set(documented()) == set(defaults())


@pytest.mark.parametrize("name", sorted(defaults()))
def test_the_default_on_the_page_is_that_of_the_code(name):
    shown, value = documented()[name][0], defaults()[name]
    assert shown == value and type(shown) is type(value), f"diff3r.{name}: page {shown!r}, code {value!r}"


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_every_choice_is_in_the_range(name):
    assert set(re.findall(r"`(\w+)`", documented()[name][1])) >= set(CHOICES[name])


def test_null_is_in_the_range_of_what_may_be_null():
    nullable = {name for name, (_, allowed) in documented().items() if "`null`" in allowed}
    assert nullable == settings.NULLABLE


def test_tables_of_groups_are_those_of_the_code():
    steps, weights = PAGE.split("Proximal weights to start from")
    for part, values in ((steps, {name: group.rate for name, group in GROUPS.items()}), (weights, starting_weights())):
        shown = {name: float(v) for name, v in re.findall(r"^\| `(\w+)` \| `([\d.]+)` \|$", part, re.MULTILINE)}
        assert shown == dict(values)
    assert f"exp({RANGE:g})" in weights
