"""What the documentation shows runs: the quickstart, the README's code, the docstrings' examples, and every link."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest
import torch
from scenes import refinable_scene

import diff3r_adapters
import diff3r_plugin
import diff3r_startup

ROOT = Path(__file__).parents[2]
PAGES = [path for pattern in ("*.md", "docs/**/*.md", "examples/*.md") for path in sorted(ROOT.glob(pattern))]
PUBLIC = ("Gaussians", "Views", "TTOConfig", "TTOLayer", "ProximalWeights", "UncertaintyHead")


def importable() -> list[str]:
    """Every module whose packages are installed; those of the command line start programs."""
    found = []
    for package in (diff3r_plugin, diff3r_adapters, diff3r_startup):
        found.append(package.__name__)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".site" not in module.name and not module.name.endswith("__main__"):
                found.append(module.name)
    return found


@pytest.mark.parametrize("name", importable())
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("diff3r"):
            raise
        pytest.skip(f"needs {error.name}")
    outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples in {name}: see the output"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_classes_have_an_example(name):
    assert ">>> " in (getattr(diff3r_plugin, name).__doc__ or ""), f"{name} shows no example"


def test_library_quickstart_learns(capsys):
    quickstart = runpy.run_path(str(ROOT / "examples" / "library_quickstart.py"))
    before, after = quickstart["main"](steps=6)
    assert after > before + 1, "a few steps of training must help the refined rendering by more than a decibel"
    assert "learned proximal weights" in capsys.readouterr().out


def python_blocks(page: str) -> list[str]:
    """The Python code that a page shows; at least one block."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, f"{page} shows no Python code"
    return blocks


def test_code_in_the_readme_runs_on_what_a_network_predicts():
    scene, views = refinable_scene(dtype=torch.float32)
    opacities = scene.opacities.clone().requires_grad_()
    names: dict = {
        "means": scene.means,
        "covariances": scene.covariances,
        "opacities": opacities,
        "harmonics": scene.harmonics,
        "images": views.images,
        "world_to_camera": views.world_to_camera,
        "intrinsics": views.intrinsics,
        "target": views,
    }
    for block in python_blocks("README.md"):
        exec(compile(block, "README.md", "exec"), names)
    assert opacities.grad.abs().sum() > 0
    assert (names["info"].energy[-1] < names["info"].energy[0]).all()


def test_code_on_the_page_of_the_layer_runs(capsys):
    for block in python_blocks("docs/library.md"):
        names: dict = {}
        exec(compile(block, "docs/library.md", "exec"), names)
        assert names["opacities"].grad.abs().sum() > 0
        assert (names["info"].energy[-1] < names["info"].energy[0]).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in known, f"{page.name} links to {target}; headings: {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_on_the_pages_exist(page):
    from diff3r_plugin.cli.main import build_parser

    known = next(action.choices for action in build_parser()._actions if action.choices)
    for command in re.findall(r"(?:^|[`\s])diff3r ([a-z][a-z-]+)(?=[\s`])", _code(page)):
        assert command in known, f"{page.name} shows `diff3r {command}`; commands: {', '.join(known)}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", _code(page), re.MULTILINE):
        assert target in targets, f"{page.name} shows `make {target}`; targets: {', '.join(sorted(targets))}"


def _code(page: Path) -> str:
    """The indented and inline code of a page, one piece a line."""
    text = page.read_text(encoding="utf-8")
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return "\n".join([*indented, *(f"`{piece}`" for piece in re.findall(r"`([^`\n]+)`", text))])


def test_the_worked_adapter_is_the_real_one():
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    shown = page.split("## A worked example")[1].split("```python\n")[1].split("```")[0]
    assert shown in (ROOT / "adapters" / "mini_host.py").read_text(encoding="utf-8")
