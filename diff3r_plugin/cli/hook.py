"""``diff3r hook``: is the start-up hook in this environment, and take it out or put it back."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from diff3r_startup.installation import install, installed, remove


def add_parser(subparsers: Any) -> None:
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
        for path in install():
            print(f"wrote {path}")
        return 0
    if arguments.remove:
        removed = remove()
        for path in removed:
            print(f"removed {path}")
        if not removed:
            print("there was nothing to remove", file=sys.stderr)
        return 0
    found = installed()
    for path in found:
        print(f"installed: {path}")
    if not found:
        print("not installed; `diff3r run -- COMMAND` works without it, `diff3r hook --install` puts it back")
    return 0 if found else 1
