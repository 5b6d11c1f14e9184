"""``diff3r``: finds the subcommands in this package and runs one."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

from diff3r_plugin import __version__, cli
from diff3r_plugin.errors import Diff3rError, UsageError

IDLE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for work sleep: OpenMP's spin by default, and take a busy machine's cores from those that work."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands.

    A subcommand is a module of this package with ``add_parser(subparsers)``, which sets the default ``run``: a
    function of the parsed arguments that returns the exit status (None means 0).
    """
    parser = argparse.ArgumentParser(
        prog="diff3r", description="Differentiable test-time optimization for feed-forward 3D Gaussian splatting."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.add_argument("--version", action="version", version=f"diff3r-plugin {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="subcommand")
    for found in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
        if found.name in ("main", "__main__") or found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{cli.__name__}.{found.name}")
        if hasattr(module, "add_parser"):
            module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 1 where something went wrong, 2 for a wrong command line.

    It is 130 where the user has stopped it. What the user can put right is one line, ``diff3r COMMAND: ...``; anything
    else comes with its traceback.
    """
    parsed = build_parser().parse_args(arguments)
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen and not getattr(parsed, "starts_host", False):  # a host's threads are the host's
        os.environ.update(IDLE_THREADS)  # OpenMP reads it once, as torch loads it
    try:
        return parsed.run(parsed) or 0
    except BrokenPipeError:  # the reader closed the pipe
        return 0
    except KeyboardInterrupt:
        print(f"diff3r {parsed.subcommand}: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        line = None if parsed.traceback or _full_traceback() else _in_one_line(error)
        if line is None:
            raise
        print(f"diff3r {parsed.subcommand}: {line}", file=sys.stderr)
        return 2 if _of_the_command_line(error) else 1


def _in_one_line(error: Exception) -> str | None:
    """What the user can put right; None for what only we can."""
    if isinstance(error, Diff3rError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None and not error.name.startswith("diff3r"):
        return f"this needs the package {error.name!r}, which is not installed: pip install {error.name}"
    if isinstance(error, OSError) and error.strerror:
        where = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{where}: {error.strerror}" if where else error.strerror
    if isinstance(error, ValueError) and _raised_here(error):
        return str(error)
    return None


def _of_the_command_line(error: Exception) -> bool:
    """Whether it is the command line that is wrong: words that do not fit together, or a value out of its range."""
    return isinstance(error, UsageError) or (isinstance(error, ValueError) and not isinstance(error, Diff3rError))


def _raised_here(error: Exception) -> bool:
    """Whether this package raised it, and no library that it called: then it says what to do."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return os.path.abspath(frame.f_code.co_filename).startswith(os.path.join(_PACKAGE, ""))


def _full_traceback() -> bool:
    return os.environ.get("DIFF3R_TRACEBACK", "").strip().lower() not in ("", "0", "off", "no", "false")


if __name__ == "__main__":
    sys.exit(main())
