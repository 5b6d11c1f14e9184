"""What ``diff3r_plugin`` itself offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scenes import random_scene

import diff3r_plugin

NAMES = sorted(set(diff3r_plugin.__all__) - {"__version__"})


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(diff3r_plugin.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(a.asname, node.module) for node in block.body for a in node.names}
    assert seen == {(name, f"diff3r_plugin.{home}") for name, home in diff3r_plugin._HOMES.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name):
    assert callable(getattr(diff3r_plugin, name))


@pytest.mark.parametrize("before", ["", "import diff3r_plugin.render; ", "from diff3r_plugin import TTOLayer; "])
def test_render_is_a_function_whatever_was_imported_before(before):
    script = before + "from diff3r_plugin import render; print(callable(render), hasattr(render, '__call__'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_render_renders():
    from diff3r_plugin import render

    scene, views = random_scene()
    from diff3r_plugin.render import render as function

    assert torch.equal(render(scene, views, "torch"), function(scene, views, "torch"))


def test_no_torch_is_imported_for_the_names_alone():
    script = "import sys, diff3r_plugin; dir(diff3r_plugin); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
