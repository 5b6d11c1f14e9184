"""``diff3r make-data OUT``: write procedural scenes, or one's own captures, in the RealEstate10K chunk layout."""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path

from diff3r_plugin.cli._file_warnings import said_as
from diff3r_plugin.cli._settings_options import named_fields
from diff3r_plugin.data import OUTLIER_KINDS, DataOptions

_HELP = {
    "train": "training scenes",
    "val": "validation scenes",
    "test": "test scenes",
    "frames": "frames per scene",
    "size": "image height and width in pixels; with --from also HxW",
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
        help="write procedural scenes, or your captures, in the RealEstate10K chunk format",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    _add_capture_arguments(parser)
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
        elif field.name == "size":
            parser.add_argument(option, type=_size, default=None, metavar="N", help=f"{_HELP['size']} (64, or 360x640)")
        else:
            parser.add_argument(
                option, type=type(field.default), default=field.default, metavar="N", help=_HELP[field.name]
            )
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="processes; all cores by default")


def _add_capture_arguments(parser: argparse.ArgumentParser) -> None:
    """What only concerns --from."""
    add = parser.add_argument_group("your own captures", "each is one scene; no scene is in two splits").add_argument
    add("--from", dest="sources", action="append", metavar="PATH",
        help="a COLMAP folder or a transforms.json; repeat it for more captures")  # fmt: skip
    add("--overlap", type=float, nargs="+", default=[0.6], metavar="SHARE",
        help="of the context views in the evaluation indices, one index for each")  # fmt: skip
    add("--median-depth", type=float, default=None, metavar="D", help="scale each scene to this median depth of points")
    add("--val-scenes", default="", metavar="NAMES", help="captures for validation, comma-separated; else a tenth")
    add("--test-scenes", default="", metavar="NAMES", help="captures for testing, comma-separated; else a tenth")


def _size(text: str) -> tuple[int, int]:
    """Height and width of N or HxW."""
    try:
        parts = [int(part) for part in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give N, or HxW as 360x640")
    return parts[0], parts[-1]


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    return _captures(args) if args.sources else _rooms(args)


def _captures(args: argparse.Namespace) -> int:
    from diff3r_plugin.data import CaptureOptions, make_capture_data

    options = CaptureOptions(
        size=args.size or CaptureOptions.size,
        overlaps=tuple(args.overlap),
        target_views=args.target_views,
        median_depth=args.median_depth,
        val=tuple(filter(None, args.val_scenes.split(","))),
        test=tuple(filter(None, args.test_scenes.split(","))),
    )
    with said_as("diff3r make-data"):
        report = make_capture_data(args.out, args.sources, options, say=print)
    for name, scene in report["scenes"].items():
        for note in scene["notes"]:
            print(f"{name}: {note}")
    print(
        f"Wrote {len(report['scenes'])} scenes to {args.out}, {len(report['left_out'])} left out; report.json says "
        f"what was. For the host: dataset.near={report['near']:.3g} dataset.far={report['far']:.3g}"
    )
    return 0


def _rooms(args: argparse.Namespace) -> int:
    values = named_fields(args, DataOptions)
    height, width = values.pop("size") or (DataOptions.size, DataOptions.size)
    if height != width:
        raise ValueError(f"--size {height}x{width}: rooms are square; give one number, or captures (--from).")
    options = DataOptions(**values, size=height)
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}.")
    from diff3r_plugin.data import make_data  # brings NumPy and Pillow

    start = time.monotonic()
    make_data(args.out, options, workers=args.workers)
    scenes = options.train + options.val + options.test
    print(f"Wrote {scenes} scenes of {options.frames} frames to {args.out} in {time.monotonic() - start:.1f} s.")
    return 0
