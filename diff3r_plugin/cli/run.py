"""``diff3r run``: a host's command with the plugin, without the start-up hook."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from diff3r_plugin.errors import UsageError
from diff3r_startup import ENVIRONMENT, NAME
from diff3r_startup.arguments import KNOWN, refuse_unknown, strip_flag

EPILOG = """example:
  diff3r run -- python -m src.main +experiment=re10k diff3r.inner_steps=4
  diff3r run --set inner_steps=4 -- python main.py configs/main.yaml

The command is executed in place of this one, with DIFF3R_PLUGIN set and a folder with a sitecustomize.py in front of
PYTHONPATH, so that every Python process of it (DDP ranks, workers, the commands of a shell script) is armed as the
start-up hook would arm it. A sitecustomize of yours still runs.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "run",
        help="run a host's command with the plugin, without the start-up hook",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plugin", default=NAME, help=f"plugin to use (default and only one: {NAME})")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, for hosts whose command line takes none (DIFF3R_KEY in the environment); may be repeated",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the host's command")
    parser.set_defaults(run=run, starts_host=True)


def run(arguments: argparse.Namespace) -> int:
    """Replace this process by the host's command."""
    command = list(arguments.command)
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise UsageError("give the host's command after --, for instance: diff3r run -- python -m src.main mode=test")
    if arguments.plugin not in KNOWN:
        try:
            refuse_unknown(["--plugin", arguments.plugin])
        except SystemExit as refused:
            raise UsageError(str(refused.code).removeprefix("diff3r: ")) from None
    strip_flag(command)
    executable = shutil.which(command[0])
    if executable is None:
        raise UsageError(f"there is no command {command[0]!r} on the PATH.")
    os.execve(executable, command, {**environment(arguments.plugin), **settings(arguments.set)})
    return 127  # not reached


def settings(words: list[str]) -> dict[str, str]:
    """The environment variables of ``KEY=VALUE`` words, once they are known to be good ones.

    Raises:
        UsageError: for a word without a value, an unknown key or a value that does not do.
    """
    from diff3r_plugin.plugin import PluginError
    from diff3r_plugin.plugin.settings.given_settings import from_environment, variable
    from diff3r_plugin.plugin.settings.settings import PluginSettings

    found = {}
    try:
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise PluginError(f"--set {word}: write KEY=VALUE, for instance --set inner_steps=4.")
            found[variable(key)] = value
        PluginSettings.parse(from_environment(found))
    except PluginError as error:
        raise UsageError(str(error)) from error
    return found


def environment(plugin: str) -> dict[str, str]:
    """The environment of a host's process: this one's, with the plugin armed."""
    import diff3r_startup

    site = Path(diff3r_startup.__file__).parent / "site"
    path = [str(site), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, ENVIRONMENT: plugin, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}
