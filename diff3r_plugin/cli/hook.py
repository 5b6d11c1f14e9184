"""``diff3r hook``: is the start-up hook in this environment, and take it out or put it back."""

from __future__ import annotations

import argparse
import site
import sys
import sysconfig
from importlib import resources
from pathlib import Path

FILES = ("diff3r_startup.pth", "diff3r_startup.start")
"""Kept in the package `diff3r_startup`; Python reads their copies in ``site-packages``."""


def add_parser(subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "hook",
        help="status of the start-up hook; remove it or put it back",
        description="The start-up hook lets `--plugin diff3r` stand on a host's own command line. Without the flag it "
        "does nothing. `diff3r run -- COMMAND` is the same thing without it.",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--status", action="store_true", help="say whether and where it is installed (default)")
    action.add_argument("--remove", action="store_true", help="delete its files from this environment")
    action.add_argument("--install", action="store_true", help="write its files into this environment")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; status 1 when the hook is asked for and not there."""
    if arguments.install:
        return install(Path(sysconfig.get_path("purelib")))
    if arguments.remove:
        return remove()
    found = installed()
    for path in found:
        print(f"installed: {path}")
    if not found:
        print("not installed; `diff3r run -- COMMAND` works without it, `diff3r hook --install` puts it back")
    return 0 if found else 1


def installed() -> list[Path]:
    """The hook's files in this environment."""
    folders = dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages(), site.getusersitepackages()])
    return [path for folder in folders for name in FILES if (path := Path(folder) / name).is_file()]


def install(folder: Path) -> int:
    """Write the hook's files into a folder of site-packages."""
    for name in FILES:
        (folder / name).write_text((resources.files("diff3r_startup") / name).read_text(encoding="utf-8"))
        print(f"wrote {folder / name}")
    return 0


def remove() -> int:
    """Delete the hook's files from this environment; the package itself stays."""
    found = installed()
    for path in found:
        path.unlink()
        print(f"removed {path}")
    if not found:
        print("there was nothing to remove", file=sys.stderr)
    return 0
