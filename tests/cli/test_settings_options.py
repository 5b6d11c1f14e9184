"""Options of commands that are fields of settings: each arrives, and what is not given is the settings' own default."""

import argparse
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from diff3r_plugin import TTOConfig
from diff3r_plugin.cli import inspect, make_data, refine
from diff3r_plugin.cli._settings_options import named_fields
from diff3r_plugin.cli.main import build_parser
from diff3r_plugin.data import DataOptions
from diff3r_plugin.refine import RefineSettings

LEAST = ["refine", "scene.ply", "--cameras", "cameras", "--out", "out"]
GIVEN = {
    "--points": "points.ply",
    "--images": "folder",
    "--world": "original",
    "--frames": "0:4",
    "--hold-out": "none",
    "--downscale": "2",
    "--groups": "means,opacity",
    "--weights": "means=0.3",
    "--views-per-round": "5",
    "--rounds": "6",
    "--steps": "7",
    "--max-gaussians": "8",
    "--validation": "9",
    "--robust": "0.25",
    "--damping": "0.5",
    "--sh-degree": "2",
    "--near": "0.125",
    "--far": "64",
    "--background": "0.5,0.25,1",
    "--seed": "3",
    "--memory": "16",
    "--pictures": "11",
    "--backend": "torch",
    "--device": "cpu:0",
}


def actions(command) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    (chosen,) = parser._subparsers._group_actions[0].choices.values()
    return {action.option_strings[-1]: action for action in chosen._actions if action.option_strings}


def settings(*words: str) -> RefineSettings:
    return refine.settings_of(build_parser().parse_args([*LEAST, *words]))


def test_what_is_not_given_is_the_default_of_the_settings():
    assert settings() == RefineSettings(scene=Path("scene.ply"), cameras="cameras", out=Path("out"))


def test_every_option_of_refine_is_tried_here():
    flags = {"--help", "--cameras", "--out", "--resume", "--undistort"}
    assert set(actions(refine)) - flags == set(GIVEN)


@pytest.mark.parametrize("option", [*GIVEN, "--undistort"])
def test_each_option_changes_the_settings(option):
    if option == "--points":
        words = ["refine", *LEAST[2:], option, GIVEN[option]]
        assert refine.settings_of(build_parser().parse_args(words)).points == "points.ply"
        return
    assert settings(option, *([GIVEN[option]] if option in GIVEN else [])) != settings()


def test_every_field_of_the_settings_has_an_option():
    named = vars(build_parser().parse_args(LEAST)).keys() | {action.dest for action in actions(refine).values()}
    assert {field.name for field in fields(RefineSettings)} - {"tto"} <= named
    assert not {f.name for f in fields(RefineSettings)} & {f.name for f in fields(TTOConfig)}, "or one would be both"


@pytest.mark.parametrize("command", [refine, inspect])
def test_defaults_that_the_help_names_are_those_of_the_settings(command):
    """Numbers: what follows from other options is told in words."""
    checked = 0
    for action in actions(command).values():
        told = re.search(r"\(default: ([0-9.,]+)\)$", action.help or "")
        for kind in (RefineSettings, TTOConfig):
            field = {field.name: field for field in fields(kind)}.get(action.dest)
            if told and field and field.default is not MISSING and action.default is argparse.SUPPRESS:
                default = field.default if isinstance(field.default, tuple) else (field.default,)
                assert tuple(map(float, told[1].split(","))) == default, action.dest
                checked += 1
    assert checked >= (6 if command is refine else 2)


def test_options_of_make_data_are_the_fields_of_its_settings():
    args = build_parser().parse_args(["make-data", "out", "--frames", "7", "--outlier-kinds", "blur", "--depths"])
    values = named_fields(args, DataOptions)
    assert values.pop("size") is None, "it is a number for rooms and two for captures"
    assert DataOptions(**values) == DataOptions(frames=7, outlier_kinds=("blur",), depths=True)
    assert set(actions(make_data)) >= {"--" + field.name.replace("_", "-") for field in fields(DataOptions)}


def test_a_command_line_is_read_before_pytorch_is_loaded():
    """OpenMP reads how its threads wait once, as PyTorch loads it; and --help need not wait for either."""
    script = "import sys, diff3r_plugin.cli.main as m; m.build_parser(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
