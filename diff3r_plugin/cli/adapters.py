"""``diff3r adapters``: list the adapters, or start a new one."""

from __future__ import annotations

import argparse
import keyword
from importlib import resources
from pathlib import Path
from typing import Any

from diff3r_plugin.errors import UsageError

TEMPLATES = {
    "PixelSplatFamily": ("adapter.template", "test_adapter.template"),
    "HostAdapter": ("adapter_any.template", "test_adapter_any.template"),
}
"""By the class that the new adapter derives from: its source, and that of its test."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("adapters", help="list the hosts that are known, or start an adapter for another")
    parser.set_defaults(run=listing)
    actions = parser.add_subparsers(metavar="ACTION")
    show = actions.add_parser("list", help="list the adapters that are installed (default)")
    show.set_defaults(run=listing)
    new = actions.add_parser("new", help="write a package with an adapter for a new host")
    new.add_argument("name", help="short name of the host, a Python identifier")
    new.add_argument("--into", type=Path, default=Path("."), help="folder to write to (default: here)")
    new.add_argument(
        "--base",
        choices=TEMPLATES,
        default="PixelSplatFamily",
        help="class to derive from: hosts that grew from pixelSplat, or any other, with Lightning or without",
    )
    new.set_defaults(run=scaffold)


def listing(arguments: argparse.Namespace) -> int:
    """Print name, module, repository and verified commits of every adapter."""
    from diff3r_plugin.plugin.host import registry

    known = registry.adapters()
    width = max(map(len, known), default=0)
    for name, adapter in known.items():
        commits = ", ".join(commit[:7] for commit in adapter.verified_commits)
        print(f"{name:{width}}  {adapter.repository}{f' (verified at {commits})' if commits else ''}")
    for name, error in registry.FAILED.items():
        print(f"{name:{width}}  could not be loaded: {error!r}")
    return 1 if registry.FAILED else 0


def scaffold(arguments: argparse.Namespace) -> int:
    """Write ``diff3r-NAME/`` with an adapter, its test and a pyproject.toml."""
    name: str = arguments.name
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UsageError(f"{name!r} cannot be a module name; use lower-case letters, digits and underscores.")
    folder = arguments.into / f"diff3r-{name.replace('_', '-')}"
    if folder.exists():
        raise UsageError(f"{folder} is there already; remove it or choose another name.")
    values = {"NAME": name, "CLASS": "".join(part.capitalize() for part in name.split("_"))}
    templates = resources.files("diff3r_plugin.cli") / "templates"
    adapter, test = TEMPLATES[arguments.base]
    for template, target in (
        (adapter, f"diff3r_{name}.py"),
        (test, f"test_diff3r_{name}.py"),
        ("pyproject.template", "pyproject.toml"),
    ):
        text = (templates / template).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(text, encoding="utf-8")
    print(f"wrote {folder}: fill in diff3r_{name}.py, then")
    print(f"  pip install -e '{folder}[test]' && diff3r doctor YOUR_CHECKOUT && pytest {folder}")
    return 0
