"""``diff3r make-data OUT``: write procedural scenes in the RealEstate10K chunk layout."""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from diff3r_plugin.data import OUTLIER_KINDS, DataOptions

_HELP = {
    "train": "training scenes",
    "val": "validation scenes",
    "test": "test scenes",
    "frames": "frames per scene",
    "size": "image height and width in pixels",
    "seed": "seed; the same options give the same bytes",
    "target_views": "target frames per scene in the evaluation indices",
    "supersample": "rays per pixel along each axis",
    "depths": "also store every frame's true z-depth, for hosts that train with it",
    "outlier_share": "share of context images to corrupt, 0 to 1",
    "outlier_kinds": f"how to corrupt them: any of {', '.join(OUTLIER_KINDS)}",
    "outlier_splits": "splits in which to corrupt context images",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "make-data",
        help="write procedural scenes in the RealEstate10K chunk format",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=main)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per field of `diff3r_plugin.data.DataOptions`, and OUT and --workers."""
    parser.add_argument("out", type=Path, help="folder to write to")
    for field in fields(DataOptions):
        option = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(option, action="store_true", help=_HELP[field.name])
        elif isinstance(field.default, tuple):
            parser.add_argument(option, nargs="+", default=list(field.default), metavar="NAME", help=_HELP[field.name])
        else:
            parser.add_argument(
                option, type=type(field.default), default=field.default, metavar="N", help=_HELP[field.name]
            )
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="processes; all cores by default")


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    values: dict[str, Any] = {}
    for field in fields(DataOptions):
        value = getattr(args, field.name)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    options = DataOptions(**values)
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}.")
    from diff3r_plugin.data import make_data  # brings NumPy and Pillow

    start = time.monotonic()
    make_data(args.out, options, workers=args.workers)
    scenes = options.train + options.val + options.test
    print(f"Wrote {scenes} scenes of {options.frames} frames to {args.out} in {time.monotonic() - start:.1f} s.")
    return 0
