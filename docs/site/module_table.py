"""MkDocs hook: a page of every module with the first sentence of its docstring.

``python docs/site/module_table.py`` prints it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
PACKAGES = {"diff3r_plugin": "diff3r_plugin", "diff3r_adapters": "adapters", "diff3r_startup": "diff3r_startup"}
BAR = "\\|"
"""A vertical bar within a cell."""


def module_table() -> str:
    """Markdown: a heading and a table for each package, in the order of the modules' names."""
    parts = ["# Modules\n", "What each module is, in its own words.\n"]
    for package, folder in PACKAGES.items():
        parts += [f"## {package}\n", "| module | what it is |", "| --- | --- |"]
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("")
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if "site" in inside.parts or text is None:
                continue
            name = ".".join(part for part in inside.parts if part != "__init__") or package
            first = " ".join(text.split("\n\n")[0].split())
            parts.append(f"| `{name}` | {first.replace('|', BAR)} |")
        parts.append("")
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "modules.md", content=module_table()))
    return files


if __name__ == "__main__":
    print(module_table())
