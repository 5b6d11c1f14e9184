"""``diff3r demo``: train the miniature host plainly and with the plugin, and compare them on held-out scenes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from diff3r_plugin.errors import Diff3rError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="train the miniature host with and without the plugin and compare",
        description="Writes procedural rooms, fine-tunes the pretrained miniature host plainly and with `--plugin "
        "diff3r`, tests both on held-out rooms before and after test-time optimization, and writes results.json and "
        "report.html.",
    )
    parser.add_argument("--quick", action="store_true", help="everything tiny: shows that it runs, learns nothing")
    parser.add_argument("--from-scratch", action="store_true",
                        help="train from random weights, not the pretrained ones; twice as long")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for everything (default: outputs/demo, or outputs/demo-quick)")
    parser.add_argument("--seed", type=int, help="seed of the data and of every training")
    parser.add_argument("--steps", type=int, help="training steps of the host")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", dest="host_settings", default=[],
                        help="setting of the host in every run; may be repeated")  # fmt: skip
    parser.add_argument("--plugin-set", action="append", metavar="diff3r.KEY=VALUE", dest="plugin_settings", default=[],
                        help="setting of the plugin in the runs with the flag; may be repeated")  # fmt: skip
    parser.add_argument("--also-test", action="append", metavar="NAME=DATA_ROOT", default=[], type=_named_root,
                        help="further data in the RealEstate10K chunk layout to test on; may be repeated")  # fmt: skip
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    try:
        from diff3r_plugin.demo.pipeline import Demo
    except ModuleNotFoundError as error:
        raise Diff3rError(f"{error}; the demo needs more: pip install 'diff3r-plugin[demo]'") from error
    from diff3r_plugin.demo.settings import DemoSettings

    changes: dict[str, Any] = {k: v for k in ("out", "seed", "steps") if (v := getattr(args, k)) is not None}
    make = DemoSettings.tiny if args.quick else DemoSettings.from_scratch if args.from_scratch else DemoSettings
    if args.quick and args.from_scratch:
        changes["fine_tune"] = False
    default = make()
    for name in ("host_settings", "plugin_settings"):
        if getattr(args, name):
            changes[name] = (*getattr(default, name), *getattr(args, name))
    Demo(make(**changes, also_test=dict(args.also_test))).run()
    return 0


def _named_root(text: str) -> tuple[str, Path]:
    name, equals, root = text.partition("=")
    if not (name.isidentifier() and equals and root):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DATA_ROOT, like fox=/data/fox_re10k")
    return name, Path(root)
