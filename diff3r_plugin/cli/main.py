"""``diff3r``: finds the subcommands in this package and runs one."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from diff3r_plugin import __version__, cli


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands.

    A subcommand is a module of this package with ``add_parser(subparsers)``, which sets the default ``run``: a
    function of the parsed arguments that returns the exit status (None means 0).
    """
    parser = argparse.ArgumentParser(
        prog="diff3r", description="Differentiable test-time optimization for feed-forward 3D Gaussian splatting."
    )
    parser.add_argument("--version", action="version", version=f"diff3r-plugin {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for found in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
        if found.name in ("main", "__main__") or found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{cli.__name__}.{found.name}")
        if hasattr(module, "add_parser"):
            module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.run(parsed) or 0
    except BrokenPipeError:  # the reader closed the pipe
        return 0
    except Exception as error:
        if type(error).__name__ != "PluginError":  # by name: importing it would import torch
            raise
        print(f"diff3r: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
