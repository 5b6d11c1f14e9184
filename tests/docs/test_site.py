"""The documentation site: its API pages name what there is, and it needs nothing from elsewhere."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import diff3r_plugin

ROOT = Path(__file__).parents[2]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
DOCUMENTED = [name for page in API for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)]

LOADED = re.compile(r"<(script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?([^\s\">]+)")


def resolved(name: str) -> object:
    """The module or the module's attribute of this dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_api_pages_name_what_there_is(name):
    assert resolved(name).__doc__, f"{name} has no docstring"


def test_every_public_name_is_in_the_api_reference():
    documented = {name.rpartition(".")[2] for name in DOCUMENTED}
    assert {name for name in diff3r_plugin.__all__ if not name.startswith("_")} <= documented


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\n\n")[0]
    listed: set[str] = set()

    def visit(entry: object) -> None:
        if isinstance(entry, str):
            listed.add(entry)
        for item in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            visit(item)

    visit(yaml.safe_load(text))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= listed, f"mkdocs.yml does not list {pages - listed}"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site (some seconds: it reads the whole package)."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(API)
    for page in pages:
        for tag, address in re.findall(
            r"<(script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?([^\s\">]+)", page.read_text()
        ):
            assert "//" not in address, f"{page.name}: <{tag}> loads {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet.name


def test_examples_are_shown_as_code(site):
    page = (site / "api" / "layer.html").read_text(encoding="utf-8")
    assert "admonition" not in page and 'class="gp">&gt;&gt;&gt; ' in page


def test_every_module_says_what_it_is():
    script = ROOT / "docs" / "site" / "module_table.py"
    table = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.M))
    assert len(rows) > 150 and rows["linalg.pcg"].startswith("Preconditioned conjugate gradients")
    silent = [
        str(path)
        for path in (ROOT / "diff3r_plugin").rglob("*.py")
        if "site" not in path.parts and path.name != "__init__.py"
        if ".".join(path.relative_to(ROOT / "diff3r_plugin").with_suffix("").parts) not in rows
    ]
    assert not silent, f"without a docstring: {silent}"
