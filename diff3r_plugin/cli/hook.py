"""``diff3r hook``: is the start-up hook in this environment, and take it out or put it back."""

from __future__ import annotations

import argparse
import site
import sys
import sysconfig
from pathlib import Path

HOOK = (
    "import sys, os; ('DIFF3R_PLUGIN' in os.environ or any(a.startswith('--plugin') for a in sys.orig_argv)) "
    "and __import__('diff3r_startup').start()\n"
)
START = "diff3r_startup:start\n"
FILES = {"diff3r_startup.pth": HOOK, "diff3r_startup.start": START}


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
    for name, content in FILES.items():
        (folder / name).write_text(content)
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
